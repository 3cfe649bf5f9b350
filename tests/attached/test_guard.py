"""A forward of somebody else's that passes by the head is noticed and named."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
import transformers as tr
from accelerate.hooks import ModelHook, add_hook_to_module
from guarded_models import BATCH, HEADS, IDS, model_with, remembering
from strangers import from_call, from_weight, in_module, loss_of, on_instance, taken_before
from torch import nn

import wideneck as wn
from tiny import tiny_model


@contextmanager
def on_class(model, function):
    """As verl assigns to `model.__class__.forward`, for as long as a test."""
    own = type(model).forward
    type(model).forward = function
    try:
        yield
    finally:
        type(model).forward = own


@pytest.mark.parametrize(("head", "options"), HEADS)
@pytest.mark.parametrize("case", ["llama", "llama-tied"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_forward_on_the_instance_may_not_read_the_weight(head, options, case, wrapped):
    model = model_with(head, case, **options)
    on_instance(model, from_weight, wrapped=wrapped)
    for call in (model, model.forward):  # PEFT up to 0.20 calls forward by its name
        with pytest.raises(wn.WideneckError, match=r"^strangers reads the weight of the head"):
            call(**BATCH)


def test_a_forward_on_the_class_may_not_read_it_either():
    model = model_with()
    want = model(**BATCH).loss
    with on_class(model, from_weight), pytest.raises(wn.WideneckError, match="strangers reads"):
        model(**BATCH)
    assert torch.equal(model(**BATCH).loss, want)


def test_nor_the_bias_and_not_by_getattr_with_a_default():
    model = model_with("softmax", "phi")

    def forward(self, input_ids=None, labels=None):
        return getattr(self.lm_head, "bias", None)

    on_instance(model, forward)
    with pytest.raises(wn.WideneckError, match=r"test_guard reads the bias"):
        model(**BATCH)


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("trl.trainer.utils", r"wideneck\.trl\.fused\(trainer\)"),
        ("liger_kernel.transformers.model.llama", "fused_linear_cross_entropy"),
        ("verl.models.transformers.dense_common", "use_fused_kernels=False"),
        ("unsloth_zoo.loss_utils", "load the model with transformers"),
        ("somebody.elses", r"model\.token_outputs"),
    ],
)
@pytest.mark.parametrize("way", ["reads", "had taken"])
def test_the_client_is_named_and_what_to_do_instead(module, advice, way):
    model = model_with()
    function = from_weight if way == "reads" else taken_before(model)
    on_instance(model, in_module(module, function), wrapped=True)
    with pytest.raises(wn.WideneckError, match=advice) as caught:
        model(**BATCH)
    assert module in str(caught.value)
    assert str(caught.value).count(". ") == 0  # one sentence


def test_a_weight_that_was_taken_before_shows_when_it_trains():
    model = model_with()
    on_instance(model, taken_before(model))
    with pytest.raises(wn.WideneckError, match=r"strangers trains this LlamaForCausalLM without"):
        model(**BATCH)
    with torch.no_grad():
        model(**BATCH)  # trains nothing
    model.eval()(**BATCH)


@pytest.mark.parametrize("result", [tr.utils.ModelOutput, dict])
def test_log_probs_without_labels_are_training_too(result):
    model = model_with()
    weight = model.lm_head.weight

    def forward(self, input_ids=None):
        hidden = self.model(input_ids).last_hidden_state
        log_probs = F.linear(hidden, weight).log_softmax(-1)
        return result(log_probs=log_probs)

    on_instance(model, forward)
    with pytest.raises(wn.WideneckError, match="without its head"):
        model(input_ids=IDS)


@pytest.mark.parametrize("make", [model_with, lambda: model_with("moss")])
def test_states_of_our_own_forward_may_not_meet_the_weight_either(make):
    model = make()
    own = model.forward

    def forward(self, input_ids=None, labels=None):
        hidden = own(input_ids=input_ids, output_hidden_states=True).hidden_states[-1]
        return {"loss": loss_of(F.linear(hidden, self.lm_head.weight), labels)}

    on_instance(model, forward)
    with pytest.raises(wn.WideneckError, match=r"test_guard reads the weight"):
        model(**BATCH)


@pytest.mark.parametrize("attach", [lambda m: wn.attach(m, "moss"), wn.attach_memory])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_patched_model_is_refused_at_attach(attach, hooked):
    model = tiny_model("llama")
    if hooked:
        add_hook_to_module(model, ModelHook())
    else:
        on_instance(model, from_weight)
    who = r"accelerate\.hooks" if hooked else "strangers"
    with pytest.raises(wn.WideneckError, match=f"{who} has replaced the forward"):
        attach(model)
    assert type(model) is tr.LlamaForCausalLM


def test_a_memory_is_not_attached_to_a_patched_model_with_a_head():
    model = model_with("softmax")
    on_instance(model, from_call)
    with pytest.raises(wn.WideneckError, match="strangers has replaced the forward"):
        wn.attach_memory(model)


def test_a_memory_is_not_left_out():
    model = remembering()
    for bare in (from_call, from_weight):
        on_instance(model, bare)
        with pytest.raises(wn.WideneckError, match=r"memory|weight of the head"):
            model(**BATCH)
    with pytest.raises(wn.WideneckError, match="would leave the memory out"):
        model.eval().lm_head(torch.randn(1, 3, 16))


def replace_by_linear(model):
    model.lm_head = nn.Linear(16, 96)


def replace_by_call(model):
    model.lm_head.forward = lambda hidden: hidden.new_zeros(*hidden.shape[:-1], 96)


@pytest.mark.parametrize("make", [model_with, remembering])
@pytest.mark.parametrize(
    ("change", "who"),
    [
        (replace_by_linear, "its output layer is now a Linear of torch.nn.modules.linear"),
        (replace_by_call, "test_guard has replaced the forward of its output layer"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_head_that_is_not_called_is_one_sentence(make, change, who, training):
    model = make().train(training)
    change(model)
    with pytest.raises(wn.WideneckError, match=who):
        model(**BATCH)
    with pytest.raises(wn.WideneckError, match=who):
        model(input_ids=IDS)


def test_the_original_may_be_patched_below_ours(monkeypatch):
    def of_unsloth(self, input_ids=None, labels=None, **_):
        hidden = self.model(input_ids).last_hidden_state
        return tr.modeling_outputs.CausalLMOutputWithPast(logits=hidden @ self.lm_head.weight.T)

    model = model_with()
    monkeypatch.setattr(tr.LlamaForCausalLM, "forward", in_module("unsloth.models", of_unsloth))
    with pytest.raises(wn.WideneckError, match=r"the forward of unsloth\.models does not call it"):
        model(**BATCH)
