"""Clients whose way with an output layer is copied here, as they need a GPU or are no packages.

verl 0.9.1, Unsloth 2026.10.9, nanoGPT 3adf61e, nanochat 92d63d4, torchtitan b5bcd76.
"""

import pytest
import torch
import torch.nn.functional as F
import transformers as tr

import wideneck as wn
from attached.strangers import from_call, from_weight, in_module, on_instance
from clients.client_models import (
    D,
    V,
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


def assert_the_head_trains(model, loss):
    plain = model.zero_grad() or model
    want_loss = loss_of_the_head(plain, BATCH)
    want = gradients(plain, want_loss)
    found = loss()
    torch.testing.assert_close(found, want_loss, rtol=0, atol=1e-6)
    assert_same_gradients(gradients(model, found), want)


@every_head
@every_tie
def test_nanogpt(shows, head, tied):
    model = with_head(head, tied).train()
    on_instance(model, from_call)
    assert_the_head_trains(model, lambda: model(**BATCH)["loss"])
    shows("cross_entropy(lm_head(x))", "right", client="nanoGPT", version="3adf61e, copied")
    shows("a loop of one's own: cross_entropy of the logits", "right")


@every_head
@every_tie
def test_torchtitan(shows, head, tied):
    model = with_head(head, tied).train()

    def in_chunks():
        hidden = model.model(BATCH["input_ids"]).last_hidden_state[:, :-1].flatten(0, 1)
        target = BATCH["labels"][:, 1:].flatten()
        parts = zip(hidden.chunk(8), target.chunk(8), strict=True)
        total = sum(F.cross_entropy(model.lm_head(h), t, reduction="sum") for h, t in parts)
        return total / (target != -100).sum()

    assert_the_head_trains(model, in_chunks)
    shows("ChunkedLossWrapper", "right", client="torchtitan", version="b5bcd76, copied")


def test_nanochat(shows):
    """Its tanh would squash log-probabilities; a head has it as its activation."""
    torch.manual_seed(0)
    head = wn.heads.build("softcap", hidden_size=D, vocab_size=V, cap=15.0)
    hidden, target = torch.randn(7, D, requires_grad=True), torch.randint(V, (7,))
    theirs = 15 * torch.tanh(F.linear(hidden, head.weight) / 15)
    loss = F.cross_entropy(head(hidden), target)
    torch.testing.assert_close(loss, F.cross_entropy(theirs, target))
    torch.testing.assert_close(loss, head.nll(hidden, target, reduction="mean"))
    call = "wn.heads.build('softcap', cap=15, ...) in the place of its layer and its tanh"
    shows("15 tanh(logits / 15)", "through", call, client="nanochat", version="92d63d4, copied")


@every_head
@every_tie
def test_verl(shows, monkeypatch, head, tied):
    model = with_head(head, tied).train()
    theirs = in_module("verl.models.transformers.dense_common", from_weight)
    monkeypatch.setattr(type(model), "forward", theirs)
    with pytest.raises(wn.WideneckError, match=r"verl.* use_fused_kernels=False"):
        model(**BATCH)
    shows("use_fused_kernels=True", "refused", client="verl", version="0.9.1, copied")
    monkeypatch.undo()
    assert_the_head_trains(model, lambda: model(**BATCH).loss)
    shows("logits, its default", "right", client="verl", version="0.9.1, copied")


@every_head
def test_unsloth(shows, monkeypatch, head):
    def decoding(self, input_ids=None, labels=None, **_):
        hidden = self.model(input_ids).last_hidden_state
        logits = torch.mv(self.lm_head.weight, hidden[0, -1])[None, None]
        return tr.modeling_outputs.CausalLMOutputWithPast(logits=logits)

    model = with_head(head).eval()
    theirs = in_module("unsloth.models.llama", decoding)
    monkeypatch.setattr(tr.LlamaForCausalLM, "forward", theirs)
    with pytest.raises(wn.WideneckError, match=r"unsloth\.models\.llama .* with transformers"):
        model.generate(BATCH["input_ids"][:1], max_new_tokens=2)
    shows("decoding, batch 1", "refused", client="unsloth", version="2026.10.9, copied")


def test_a_memory(shows):
    model = with_memory().train()
    for theirs in (from_call, from_weight):
        on_instance(model, in_module("verl.models.transformers", theirs))
        with pytest.raises(wn.WideneckError, match=r"memory|weight of the head"):
            model(**BATCH)
    shows("a memory under a foreign forward", "refused", client="verl", version="0.9.1, copied")
