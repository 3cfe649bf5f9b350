"""Whether continuations follow from their prompts, against slow definitions."""

import pytest
import torch
import transformers as tr

from tiny import LLAMA, V
from wideneck.lab.tasks.coherence import (
    common_words,
    cosines,
    others,
    others_before,
    read,
    rep_window,
    words,
)
from wideneck.lab.tasks.measures import diversity, repetition
from wideneck.lab.tasks.pmi import pmi


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


def test_content_words_are_those_that_are_not_common():
    common = common_words(["the cat and the dog and the bird"], 2)
    assert common == {"the", "and", "unk"}
    found = words("The cat , the <unk> and 2 horses")
    assert [word for word in found if word not in common] == ["cat", "horses"]


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


def test_the_other_before_is_another_source_round_the_end():
    assert others_before("aabba") == [3, 3, 1, 1, 3]
    assert others_before("abc") == [2, 0, 1]
    assert others_before("aaa") == [None] * 3
    assert others_before("") == []


def slow_pmi(model, source, text):
    """One token at a time, each by a pass of its own."""

    def log_prob(before, token):
        logits = model(input_ids=torch.tensor([before])).logits[0, -1]
        return logits.log_softmax(-1)[token].item()

    gains = [
        log_prob([*source, *text[:k]], text[k]) - log_prob(text[:k], text[k])
        for k in range(1, len(text))
    ]
    return sum(gains) / len(gains)


def unequal(*lengths):
    return [torch.randint(V, (length,)).tolist() for length in lengths]


@torch.no_grad()
def test_pmi_of_unequal_lengths_is_the_slow_one_in_any_batch(model):
    model.double()
    sources, texts = unequal(9, 3, 14, 3, 1, 7, 20, 2, 5, 11), unequal(*range(2, 12))
    found = pmi(model, sources, texts)
    expected = [slow_pmi(model, *pair) for pair in zip(sources, texts, strict=True)]
    assert found["pmi"] == pytest.approx(expected, rel=1e-9)
    turned = sources[-1:] + sources[:-1]
    expected = [slow_pmi(model, *pair) for pair in zip(turned, texts, strict=True)]
    assert found["pmi mismatched"] == pytest.approx(expected, rel=1e-9)
    assert found["pmi cut"] == [0] * 10
    alone = pmi(model, sources[:1], texts[:1])
    assert alone["pmi"][0] == pytest.approx(found["pmi"][0], rel=1e-9)
    assert alone["pmi mismatched"] == [None]


def test_a_source_is_cut_at_its_end_to_the_positions_of_the_judge(model):
    model.double()
    (long, short), texts = unequal(90, 3), unequal(10, 10)
    found = pmi(model, [long, short], texts)
    assert found["pmi cut"] == [1, 0]
    limit = LLAMA["max_position_embeddings"]
    assert found["pmi"][0] == pytest.approx(slow_pmi(model, long[: limit - 10], texts[0]), rel=1e-9)


def test_what_has_no_pmi_has_none_and_disturbs_nothing(model):
    sources, texts = unequal(3, 0, 4, 5, 6), unequal(5, 5, 1, 64, 7)
    found = pmi(model, sources, texts)
    assert [value is None for value in found["pmi"]] == [False, True, True, True, False]
    assert found["pmi mismatched"][0] == pytest.approx(
        pmi(model, sources[-1:], texts[:1])["pmi"][0], rel=1e-4
    )
    assert pmi(model, [], []) == {name: [] for name in found}


def test_the_judge_keeps_its_mode(model):
    model.train()
    pmi(model, unequal(3, 4), unequal(5, 6))
    assert model.training


class Copying(torch.nn.Module):
    """Gives the tokens that it has read before eight times the weight of the others."""

    device = torch.device("cpu")
    config = tr.LlamaConfig(**LLAMA)

    def get_input_embeddings(self):
        return None

    def forward(self, input_ids, logits_to_keep, **_):
        seen = torch.nn.functional.one_hot(input_ids, V).cumsum(1) > 0
        logits = seen * torch.log(torch.tensor(8.0))
        return tr.modeling_outputs.CausalLMOutput(logits=logits[:, -logits_to_keep:])


def test_a_copied_source_has_pmi_and_a_shuffled_one_less():
    sources = [list(range(k, k + 10)) for k in (0, 20, 40, 60)]
    found = pmi(Copying(), sources, [source[:5] for source in sources])
    assert min(found["pmi"]) > 0.5
    assert max(found["pmi mismatched"]) < 0
