"""What the study of a memory on text is measured with, against slow definitions."""

import math

import pytest
import torch
import transformers as tr
from bench.memory_study_report import needed
from bench.memory_study_scores import (
    OFF,
    Windows,
    largest_difference,
    mixture,
    seen,
    setting_of,
    starting_from,
    states_before,
    statistics,
    with_setting,
)

import wideneck as wn
from tiny import LLAMA, V


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = tr.LlamaConfig(**LLAMA | {"num_hidden_layers": 3, "tie_word_embeddings": True})
    return tr.LlamaForCausalLM(config).eval()


def test_the_upper_layers_go_on_as_the_whole_model(model):
    ids = torch.randint(V, (5, 12))
    states = states_before(model, 1, ids)
    assert states.shape == (5, 12, LLAMA["hidden_size"])
    assert largest_difference(model, 1, ids, states) < 1e-5
    assert len(model.model.layers) == 3


def test_only_the_upper_layers_get_a_gradient(model):
    ids = torch.randint(V, (2, 12))
    model.requires_grad_(False)
    model.model.layers[2].requires_grad_(True)
    with starting_from(model, 2, states_before(model, 2, ids)):
        model(input_ids=ids, labels=ids).loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, _ in model.named_parameters() if "layers.2." in n}


def test_the_mixture_is_the_one_that_the_model_reports(model):
    wn.attach_memory(model)
    ids = torch.randint(V, (3, 20))
    windows = Windows(ids, states_before(model, 1, ids), torch.arange(3))
    found = statistics(model, windows, 1)
    loss, mass = mixture(seen(model, windows, 1), setting_of(model))
    torch.testing.assert_close(loss.mean(1), torch.tensor(found["nll"]))
    torch.testing.assert_close(mass.mean(1), torch.tensor(found["cache_mass"]))


def test_a_memory_that_is_off_leaves_the_model(model):
    ids = torch.randint(V, (2, 12))
    plain = model(input_ids=ids).logits.log_softmax(-1)
    wn.attach_memory(model)
    before = setting_of(model)
    with with_setting(model, OFF):
        torch.testing.assert_close(model(input_ids=ids).logits, plain)
    assert setting_of(model) == before


def test_a_difference_of_half_its_interval_needs_four_times_the_texts():
    assert needed(48, -1, 3) == "192"
    assert needed(48, -1, 1) == "no number"
    assert math.isclose(float(needed(48, 1, 3)), 12)
