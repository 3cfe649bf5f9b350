"""Liger's patches: of a class, where ours goes on computing the loss, and of an instance."""

import pytest
import torch
import transformers as tr
from liger_kernel.transformers.model.llama import lce_forward
from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

import wideneck as wn
from clients.client_models import (
    assert_same_gradients,
    batch,
    every_head,
    every_tie,
    gradients,
    loss_of_the_head,
    with_head,
    with_memory,
)

BATCH = batch()
PARTS = {"rope": False, "rms_norm": False, "swiglu": False}  # need a GPU


@every_head
@every_tie
@pytest.mark.parametrize("first", ["patched", "attached"])
def test_a_patched_class_leaves_the_loss_to_the_head(shows, monkeypatch, head, tied, first):
    plain = with_head(head, tied).train()
    want = gradients(plain, loss_of_the_head(plain, BATCH))
    if first == "patched":
        monkeypatch.setattr(tr.LlamaForCausalLM, "forward", lce_forward)
    model = with_head(head, tied).train()
    monkeypatch.setattr(tr.LlamaForCausalLM, "forward", lce_forward)
    loss = model(**BATCH).loss
    torch.testing.assert_close(loss, loss_of_the_head(plain, BATCH), rtol=0, atol=1e-6)
    assert_same_gradients(gradients(model, loss), want)
    skipped = model.eval()(**BATCH, skip_logits=True)
    assert skipped.logits is None
    torch.testing.assert_close(skipped.loss, loss)
    shows("class patch, apply_liger_kernel_to_llama", "right")


@every_head
@every_tie
def test_a_patched_instance_is_refused_before_a_kernel(shows, head, tied):
    model = with_head(head, tied).train()
    _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=True, **PARTS)
    with pytest.raises(wn.WideneckError, match=r"liger_kernel.* reads the weight .* leave fused_"):
        model(**BATCH)
    shows("instance patch, Trainer(use_liger_kernel=True)", "refused")


def test_without_its_cross_entropy_the_instance_is_right(shows):
    model = with_head("moss").train()
    want = model(**BATCH).loss
    options = {"fused_linear_cross_entropy": False, "cross_entropy": False}
    _apply_liger_kernel_to_instance(model=model, **options, **PARTS)
    torch.testing.assert_close(model(**BATCH).loss, want)
    shows(
        "Trainer(use_liger_kernel=True)",
        "through",
        "liger_kernel_config={'fused_linear_cross_entropy': False, 'cross_entropy': False}",
    )


def test_a_memory_is_not_left_out(shows):
    model = with_memory().train()
    _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=True, **PARTS)
    for labelled in (BATCH, {"input_ids": BATCH["input_ids"]}):
        with pytest.raises(wn.WideneckError, match=r"liger_kernel|memory"):
            model(**labelled)
    shows("instance patch of a model with a memory", "refused")


def test_a_patched_instance_is_refused_at_attach(shows):
    from clients.client_models import llama

    for attach in (lambda model: wn.attach(model, "moss"), wn.attach_memory):
        model = llama()
        _apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=True, **PARTS)
        with pytest.raises(wn.WideneckError, match=r"liger_kernel.* has replaced the forward"):
            attach(model)
    shows("instance patch, then wideneck.attach", "refused")
