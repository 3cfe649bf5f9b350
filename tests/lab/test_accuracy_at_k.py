"""Accuracy at k, against a walk over every score."""

import math

import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.lab.histalign.evaluation import KS, NEVER, accuracy_at_k, needed_k


def slow_needed_k(row, first, second):
    """Of one prompt, from the definition: lists of scores and of ids."""

    def rank(i):
        if not row[i] > -math.inf:
            return NEVER
        return 1 + sum(not other < row[i] for j, other in enumerate(row) if j != i)

    return max(min((rank(i) for i in ids if i >= 0), default=NEVER) for ids in (first, second))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_k_needed_is_that_of_the_definition(dtype):
    """Few distinct scores, so ties everywhere; some -inf, some padding, some repeated ids."""
    generator = torch.Generator().manual_seed(0)
    N, V, A = 200, 12, 3
    scores = torch.randint(6, (N, V), generator=generator).to(dtype)
    scores[scores == 0] = -torch.inf
    first, second = torch.randint(-1, V, (2, N, A), generator=generator)
    found = needed_k(scores, first, second).tolist()
    expected = map(slow_needed_k, scores.tolist(), first.tolist(), second.tolist())
    assert found == list(expected)
    assert NEVER in found


def test_without_ties_a_sort_says_the_same():
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(50, 300, generator=generator).log()
    ids = torch.randint(300, (2, 50, 1), generator=generator)
    needed = needed_k(scores, *ids)
    for k in KS:
        best = scores.topk(k).indices
        both = [(best == one).any(1) for one in ids]
        assert accuracy_at_k(needed)[k] == pytest.approx((both[0] & both[1]).double().mean().item())


def test_equal_scores_count_against_the_model():
    scores = torch.zeros(1, 40)
    words = torch.tensor([[3]]), torch.tensor([[7]])
    assert accuracy_at_k(needed_k(scores, *words)) == {k: float(k >= 40) for k in KS}


def test_two_words_that_tie_at_the_top_are_the_two_best():
    scores = torch.tensor([[5.0, 5.0, 1.0]])
    assert needed_k(scores, torch.tensor([[0]]), torch.tensor([[1]])).tolist() == [2]


@pytest.mark.parametrize("score", [-math.inf, math.nan])
def test_a_word_without_a_score_is_not_found_at_any_k(score):
    """V = 3 is below most k, and still a token that no cache holds is not among the k best."""
    scores = torch.tensor([[0.0, score, 1.0]])
    needed = needed_k(scores, torch.tensor([[0]]), torch.tensor([[1]]))
    assert accuracy_at_k(needed) == dict.fromkeys(KS, 0.0)


def test_a_nan_elsewhere_makes_no_word_look_better():
    words = torch.tensor([[0]]), torch.tensor([[1]])
    plain = needed_k(torch.tensor([[2.0, 1.0, 3.0]]), *words)
    assert needed_k(torch.tensor([[2.0, 1.0, math.nan]]), *words).tolist() == plain.tolist() == [3]


def test_any_of_a_words_ids_is_enough():
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]])
    first, second = torch.tensor([[4, 0]]), torch.tensor([[1, -1]])
    assert needed_k(scores, first, second).tolist() == [2]
    assert needed_k(scores, second, first).tolist() == [2]


@pytest.mark.parametrize(
    ("shape", "ids", "message"),
    [
        ((4,), torch.tensor([[0]]), r"log_probs of shape \(N, V\), got \(4,\)"),
        ((2, 4), torch.tensor([[0]]), r"of 2 prompts must be int64 of shape \(2, A\)"),
        ((1, 4), torch.tensor([0]), r"got torch.int64 of shape \(1,\)"),
        ((1, 4), torch.empty(1, 0, dtype=torch.int64), r"A >= 1"),
        ((1, 4), torch.tensor([[0.0]]), "got torch.float32"),
        ((1, 4), torch.tensor([[4]]), "log_probs has 4 columns"),
        ((1, 4), torch.tensor([[-100]]), "go from -100"),
    ],
)
def test_scores_and_ids_that_do_not_fit_are_one_sentence(shape, ids, message):
    with pytest.raises(WideneckError, match=message):
        needed_k(torch.zeros(shape), ids, ids)


def test_an_accuracy_of_no_prompt_is_refused():
    with pytest.raises(WideneckError, match="at least one prompt"):
        accuracy_at_k(torch.empty(0, dtype=torch.int64))
