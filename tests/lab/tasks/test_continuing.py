"""The measures of continuations of unequal lengths, against slow definitions."""

import pytest
import torch

from lab.tasks.small_continuation import llama, tokenizer
from wideneck.lab.tasks.coherence import words as words_of
from wideneck.lab.tasks.continuing import Measuring, words_of_prompt

PROMPTS = ["green bottles on a wall", "seven old cats watched ", "while three gardens fal"]
TEXTS = ["a wall of cats", "seven gardens fell on it", "old wall"]


def ids_of(texts):
    return [tokenizer()(one).input_ids for one in texts]


@pytest.fixture(scope="module")
def measuring():
    prompts = torch.tensor(ids_of(PROMPTS))
    return Measuring(llama().double().eval(), tokenizer(), prompts, frozenset({"the", "and"}))


def share(text, prompt, common):
    """Of a text's content words, those that stand in the prompt."""
    content = [word for word in words_of(text) if word not in common]
    return sum(word in words_of(prompt) for word in content) / max(len(content), 1)


def less_others(table):
    """Of each column the value on the diagonal, less the mean of those off it."""
    places = range(len(table))
    return [
        table[k][k] - sum(table[i][k] for i in places if i != k) / (len(table) - 1) for k in places
    ]


@torch.no_grad()
def test_cosines_are_of_centred_states_less_those_with_other_prompts(measuring):
    def state(row):
        ids = torch.tensor(row)[None]
        return measuring.judge(input_ids=ids, output_hidden_states=True).hidden_states[-2][0, 1:]

    prompts, texts = (
        torch.stack([state(row).mean(0) for row in ids_of(some)]) for some in (PROMPTS, TEXTS)
    )
    prompts, texts = (some - some.mean(0) for some in (prompts, texts))
    table = [[torch.cosine_similarity(p, t, dim=0).item() for t in texts] for p in prompts]
    assert measuring(TEXTS).each["cosine"] == pytest.approx(less_others(table), abs=1e-6)


def test_repetition_is_that_of_the_judge_s_tokens(measuring):
    found = measuring(["a wall a wall", "abcdefg", "aaaaaaa"]).each
    assert found["tokens"] == [13, 7, 7]
    assert found["diversity"] == pytest.approx([(7 / 12) * (7 / 11) * (7 / 10), 1, 1 / 6 / 5 / 4])
    assert found["rep-2"] == pytest.approx([5 / 12, 0, 5 / 6])
    assert found["rep-w"] == pytest.approx([9 / 13, 0, 6 / 7])


@torch.no_grad()
def test_pmi_of_unequal_lengths_is_what_the_prompt_adds_beside_the_one_before(measuring):
    found = measuring(TEXTS).each["pmi"]
    rows = ids_of(TEXTS)
    for place, row in enumerate(rows):
        worth = []
        for prompt in (measuring.prompts[place], measuring.prompts[place - 1]):
            ids = torch.cat([prompt, torch.tensor(row)])[None]
            log_probs = measuring.judge(input_ids=ids).logits[0].log_softmax(-1)
            places = range(len(prompt) + 1, ids.shape[1])
            worth.append(sum(log_probs[at - 1, ids[0, at]].item() for at in places) / len(places))
        assert found[place] == pytest.approx(worth[0] - worth[1], abs=1e-6)


def test_every_draw_is_measured_by_itself(measuring):
    two = measuring([*TEXTS, *reversed(TEXTS)]).each
    one, other = measuring(TEXTS).each, measuring(TEXTS[::-1]).each
    assert two == {name: values + other[name] for name, values in one.items()}


def test_of_an_empty_text_nothing_is_said(measuring):
    found = measuring(["", "a", *TEXTS[2:]]).each
    assert found["tokens"] == [0.0, 1.0, 8.0]
    assert all(found[name][0] is None for name in found if name != "tokens")
    assert found["pmi"][1] is found["cosine"][1] is None
    assert found["diversity"][1] == 1
    assert found["cosine"] == [None, None, None]  # with one text there are no others


def test_words_of_the_prompt_are_counted_beside_all_other_prompts():
    prompts, common = [*PROMPTS, "the green cats"], frozenset({"the", "and", "a"})
    texts = ["green green cats ran", "cats ran", "and the", "seven green walls and bottles"]
    table = [[share(text, prompt, common) for text in texts] for prompt in prompts]
    found = words_of_prompt(texts, [set(words_of(one)) for one in prompts], common)
    assert found[2] is None
    expected = less_others(table)
    for place in (0, 1, 3):
        assert found[place] == pytest.approx(expected[place])
