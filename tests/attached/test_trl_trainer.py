"""Trainers of TRL are looked at while they are built, here without TRL."""

import copy
import types

import pytest
import torch
import torch.nn.functional as F
from attachable import attached
from remembering import remembering
from trl_like import utils

import wideneck as wn
from tiny import tiny_model


class BaseTrainer:
    """As TRL's: its tags are added last, when the reference model stands."""

    __module__ = "trl.trainer.base_trainer"

    def __init__(self, model, ref_model=None, **args):
        self.args = types.SimpleNamespace(**{"use_vllm": False, "loss_type": "chunked_nll", **args})
        self.accelerator = types.SimpleNamespace(unwrap_model=lambda model: model)
        self.model, self.ref_model = model, ref_model
        model.add_model_tags(["trl"])


class SFTTrainer(BaseTrainer):
    __module__ = "trl.trainer.sft_trainer"


class DPOTrainer(BaseTrainer):
    __module__ = "trl.trainer.dpo_trainer"


class GRPOTrainer(BaseTrainer):
    __module__ = "trl.trainer.grpo_trainer"


class DistillationTrainer(BaseTrainer):
    __module__ = "trl.trainer.distillation_trainer"


class OtherTrainer(BaseTrainer):
    __module__ = "trl.experimental.other.other_trainer"


class MyTrainer(DPOTrainer):
    """A user's own class."""


class AsyncTrainer:
    __module__ = "trl.experimental.async_grpo.async_grpo_trainer"

    def __init__(self, model):
        self.args = types.SimpleNamespace(vllm_server_base_url="http://localhost:8000")
        self.accelerator = types.SimpleNamespace(unwrap_model=lambda model: model)
        self.model = model
        model.add_model_tags(["trl"])


def moss():
    return attached("llama", "moss", num_components=2)


@pytest.mark.parametrize("kind", [DPOTrainer, MyTrainer, GRPOTrainer])
def test_a_reference_of_the_same_parts_is_taken(kind):
    model = moss()
    trainer = kind(model, copy.deepcopy(model))
    assert wn.trl.fused(trainer) is trainer
    assert wn.trl.fused(kind(model)).ref_model is None


REFERENCES = {
    "no head": lambda: (moss(), tiny_model("llama")),
    "another head": lambda: (moss(), attached("llama", "sigsoftmax")),
    "other components": lambda: (moss(), attached("llama", "moss", num_components=3)),
    "no memory": lambda: (remembering("llama"), attached("llama", "softmax")),
    "another memory": lambda: (remembering("llama"), remembering("llama", window=3)),
    "no normalizer": lambda: (
        wn.attention.use(tiny_model("llama"), "entmax15"),
        tiny_model("llama"),
    ),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_a_reference_of_other_parts_is_refused(case):
    model, reference = REFERENCES[case]()
    with pytest.raises(wn.WideneckError, match=r"of this DPOTrainer .*copy\.deepcopy\(model\)"):
        DPOTrainer(model, reference)
    with pytest.raises(wn.WideneckError, match=r"of this GRPOTrainer .* save_pretrained"):
        GRPOTrainer(model, reference)


def test_models_are_found_inside_what_peft_and_accelerate_put_around_them():
    model = moss()
    wrapped = types.SimpleNamespace(
        get_base_model=lambda: model, add_model_tags=model.add_model_tags
    )
    with pytest.raises(wn.WideneckError, match="reference model"):
        DPOTrainer(wrapped, tiny_model("llama"))
    DPOTrainer(wrapped, types.SimpleNamespace(get_base_model=lambda: copy.deepcopy(model)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_vllm": True}, "would sample with vLLM"),
        ({"use_liger_kernel": True}, "use_liger_kernel=True multiplies"),
        ({"use_liger_kernel": True, "liger_kernel_config": {"rope": True}}, "use_liger_kernel"),
        ({"cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32"),
    ],
)
def test_switches_that_pass_by_the_head_are_refused(options, message):
    with pytest.raises(wn.WideneckError, match=message):
        GRPOTrainer(moss(), **options)


@pytest.mark.parametrize("fuses", [True, False])
def test_row_weights_of_a_memory_with_a_ranking_loss_are_refused(fuses):
    """To TRL 1.14, too, where its loss is of the logits and leaves the ranking loss out."""
    model = remembering("llama", alpha=1.0)
    if fuses:
        utils.add_fused_lm_head(model)
    with pytest.raises(wn.WideneckError, match="loss_type='dft'"):
        SFTTrainer(model, loss_type="dft")
    SFTTrainer(remembering("llama", alpha=0.0), loss_type="dft")


def test_layers_of_liger_and_an_unused_server_are_no_loss():
    off = {"fused_linear_cross_entropy": False}
    GRPOTrainer(moss(), use_liger_kernel=True, liger_kernel_config=off, vllm_server_base_url="x")


def test_a_normalizer_is_not_for_vllm_either_and_minds_no_loss():
    model = wn.attention.use(tiny_model("llama"), "entmax15")
    with pytest.raises(wn.WideneckError, match="would sample with vLLM"):
        GRPOTrainer(model, use_vllm=True)
    GRPOTrainer(model, cast_lm_head_to_fp32=True)
    DistillationTrainer(model)


def test_trainers_that_cannot_be_right_are_refused():
    with pytest.raises(wn.WideneckError, match="would sample with vLLM"):
        AsyncTrainer(moss())
    with pytest.raises(wn.WideneckError, match="weights of both output layers"):
        DistillationTrainer(moss())


def test_fused_says_what_it_does_not_know():
    with pytest.raises(wn.WideneckError, match="needs a trainer of TRL, got SimpleNamespace"):
        wn.trl.fused(types.SimpleNamespace())
    plain = types.SimpleNamespace(add_model_tags=lambda tags: None)
    trainer = DPOTrainer(plain)
    trainer.model = tiny_model("llama")
    with pytest.raises(wn.WideneckError, match="has no head or memory of wideneck"):
        wn.trl.fused(trainer)
    with pytest.raises(wn.WideneckError, match="not OtherTrainer"):
        wn.trl.fused(OtherTrainer(moss()))


def test_a_loss_of_logits_gets_them_in_training():
    model = moss().train()
    SFTTrainer(model, loss_type="nll")
    ids = 3 + 0 * model.get_input_embeddings().weight[:8, 0].long()[None]
    result = model(input_ids=ids, labels=ids)
    torch.testing.assert_close(result.logits, model(input_ids=ids).logits)
    want = F.nll_loss(result.logits[0, :-1], ids[0, 1:])
    torch.testing.assert_close(result.loss, want)


def test_tags_of_others_are_only_tags():
    model = moss()
    model.add_model_tags(["trl", "mine"])
    assert model.model_tags == ["trl", "mine"]
