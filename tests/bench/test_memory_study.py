"""What the study of a memory on text is measured with, against slow definitions."""

import math

import pytest
import torch
import transformers as tr
from bench.memory_study_judge import (
    common_words,
    cosines,
    others,
    read,
    rep_window,
    shared_words,
)
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
from wideneck.lab.tasks.measures import diversity, repetition


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = tr.LlamaConfig(**LLAMA | {"num_hidden_layers": 3, "tie_word_embeddings": True})
    return tr.LlamaForCausalLM(config).eval()


def test_no_ngram_twice_is_full_diversity():
    assert diversity(range(10)) == 1
    assert rep_window(range(10)) == 0


def test_repeated_ngrams_are_counted_once():
    assert repetition([1, 2, 1, 2, 1], 2) == pytest.approx(1 - 2 / 4)
    assert diversity([1, 2, 1, 2, 1]) == pytest.approx(2 / 4 * 2 / 3 * 1)


def test_a_window_looks_back_so_far_and_no_further():
    assert rep_window([1, 2, 3, 1], window=3) == pytest.approx(1 / 4)
    assert rep_window([1, 2, 3, 1], window=2) == 0


def test_nothing_repeats_nothing():
    assert repetition([1], 2) == 0
    assert rep_window([]) == 0
    assert shared_words("the the", "the", frozenset({"the"})) == 0


def test_content_words_are_those_that_are_not_common():
    common = common_words(["the cat and the dog and the bird"], 2)
    assert common == {"the", "and", "unk"}
    assert shared_words("The cat , the <unk> and 2 horses", "A CAT sat", common) == 1 / 2


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


def test_the_judge_scores_a_continuation_but_for_its_first_token(model):
    ids = torch.randint(V, (3, 11))
    log_probs, states = read(model, ids, 5)
    whole = model(input_ids=ids, output_hidden_states=True)
    for row in range(3):
        for k, at in enumerate(range(7, 11)):
            expected = whole.logits[row, at - 1].log_softmax(-1)[ids[row, at]]
            torch.testing.assert_close(log_probs[row, k], expected)
    torch.testing.assert_close(states, whole.hidden_states[2][:, 1:].mean(1))


def test_a_prompt_without_anything_to_score_has_states(model):
    log_probs, states = read(model, torch.randint(V, (3, 11)), 0)
    assert log_probs.shape == (3, 0)
    assert states.shape == (3, LLAMA["hidden_size"])


def test_cosines_are_about_the_means():
    one = torch.randn(4, 6)
    torch.testing.assert_close(
        cosines(one + 100, 2 * one - 50).diag(), torch.ones(4), rtol=1e-4, atol=0
    )


def test_the_others_of_a_continuation_are_all_other_prompts():
    table = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    assert others(table).tolist() == [5.5, 5.0, 4.5]


def test_a_difference_of_half_its_interval_needs_four_times_the_texts():
    assert needed(48, -1, 3) == "192"
    assert needed(48, -1, 1) == "no number"
    assert math.isclose(float(needed(48, 1, 3)), 12)
