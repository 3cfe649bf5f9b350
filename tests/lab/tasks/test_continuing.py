"""The measures of continuations of unequal lengths, against slow definitions."""

import pytest
import torch

from lab.tasks.small_continuation import llama, tokenizer
from wideneck.lab.tasks.coherence import judged, others, shares
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


def test_texts_of_one_length_are_judged_as_by_the_study(measuring):
    texts = [one[:8] for one in TEXTS]
    found = measuring(texts).each
    slow = judged(
        measuring.judge,
        tokenizer(),
        measuring.prompts,
        torch.tensor(ids_of(texts)),
        measuring.common,
    )
    for name in ("diversity", "rep-2", "rep-3", "rep-4", "rep-w"):
        assert found[name] == slow[name]
    assert any(found["prompt_words"])
    for name, old in (("pmi", "pmi"), ("cosine", "cosine"), ("prompt_words", "words")):
        expected = [a - b for a, b in zip(slow[old], slow[f"{old} mismatched"], strict=True)]
        assert found[name] == pytest.approx(expected, abs=1e-6)


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
    table = shares(prompts, texts, common)
    expected = (table.diag() - others(table)).tolist()
    found = words_of_prompt(texts, [set(words_of(one)) for one in prompts], common)
    assert found[2] is None
    for place in (0, 1, 3):
        assert found[place] == pytest.approx(expected[place])
