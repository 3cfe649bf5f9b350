"""The head in the layer's place: tying, the plans of transformers, other vocabulary sizes."""

import pytest
import torch
from attachable import attached, token_ids

import wideneck as wn
from tiny import CASES, tiny_model

TIED = ["llama-tied", "gpt2", "opt", "gemma2", "cohere"]


@pytest.mark.parametrize("case", TIED)
def test_a_tied_weight_stays_tied(case):
    model = attached(case, "mos")
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.tie_weights()
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("case", TIED)
def test_a_tie_can_be_cut(case, tmp_path):
    original, model = tiny_model(case), attached(case, "mos", tie=False)
    model.tie_weights()
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert not model.config.tie_word_embeddings
    ids = token_ids()
    expected = original(input_ids=ids).logits.log_softmax(-1)
    torch.testing.assert_close(model(input_ids=ids).logits, expected)

    model.lm_head.weight.data.mul_(2)
    model.save_pretrained(tmp_path)
    loaded = wn.load(tmp_path)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_an_untied_weight_stays_its_own():
    original = tiny_model("llama")
    weight = original.lm_head.weight
    model = wn.attach(original, "mos", tie=False)
    assert model.lm_head.weight is weight


@pytest.mark.parametrize("training", [True, False])
def test_a_head_is_in_the_mode_of_the_layer(training):
    """Or a model that only predicts would drop out contexts."""
    model = wn.attach(tiny_model("llama").train(training), "mos", dropout=0.5)
    assert {part.training for part in model.lm_head.modules()} == {training}


@pytest.mark.parametrize("trains", [True, False])
def test_a_weight_that_is_cut_from_the_embedding_trains_as_it_did(trains):
    original = tiny_model("llama-tied")
    original.lm_head.weight.requires_grad_(trains)
    model = wn.attach(original, "softmax", tie=False)
    assert model.lm_head.weight.requires_grad == trains
    assert model.get_input_embeddings().weight.requires_grad == trains


@pytest.mark.parametrize("case", ["granite", "cohere", "hyperclovax"])
def test_the_factor_of_the_logits_is_the_heads(case):
    model = tiny_model(case)
    head = wn.attach(tiny_model(case), "softmax").lm_head
    hidden = torch.randn(3, head.hidden_size, generator=torch.Generator().manual_seed(0))
    z = CASES[case][1].scale * (hidden @ model.get_output_embeddings().weight.T)
    torch.testing.assert_close(head(hidden), z.log_softmax(-1))


def test_the_bias_of_the_layer_is_kept():
    original = tiny_model("phi")
    bias = original.lm_head.bias
    assert bias.abs().max() > 0
    assert wn.attach(original, "sigsoftmax").lm_head.bias is bias


def test_plans_for_a_linear_layer_no_longer_name_the_head():
    assert "lm_head" in tiny_model("llama")._tp_plan
    model = attached("llama", "sigsoftmax")
    assert "lm_head" not in model._tp_plan
    assert "lm_head" not in model._pp_plan
    assert model._fsdp_plan["lm_head"] == "keep_full_weight"
    assert "model.layers.*.self_attn.q_proj" in model._tp_plan


@pytest.mark.parametrize("vocab_size", [80, 101])
@pytest.mark.parametrize("case", ["llama", "llama-tied", "phi"])
def test_the_vocabulary_can_be_resized(case, vocab_size, tmp_path):
    original, model = tiny_model(case), attached(case, "moss")
    model.lm_head.activation.shift.requires_grad_(False)
    for each in (original, model):
        torch.manual_seed(0)
        each.resize_token_embeddings(vocab_size)
    assert model.lm_head.vocab_size == model.config.vocab_size == vocab_size
    assert torch.equal(model.lm_head.weight, original.lm_head.weight)
    assert model.lm_head.weight.requires_grad
    assert not model.lm_head.activation.shift.requires_grad
    if case == "phi":
        assert torch.equal(model.lm_head.bias, original.lm_head.bias)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == (case == "llama-tied")

    ids = token_ids().clamp(max=79)
    log_probs = model(input_ids=ids).logits
    expected = original(input_ids=ids).logits.log_softmax(-1)
    assert (log_probs - expected).abs().max() < 0.01
    model.save_pretrained(tmp_path)
    assert torch.equal(wn.load(tmp_path)(input_ids=ids).logits, log_probs)
