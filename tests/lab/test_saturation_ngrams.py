"""n-gram dimensionality against dense singular values, and where it must be its null."""

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.files.writing import json_text
from wideneck.lab.saturation import ngrams
from wideneck.lab.saturation.ngrams import ngram_dimensionality

DIMENSIONS = [1, 2, 5, 10, 20]
ROUNDING = 1e-7
"""Of the square root of a sum of eigenvalues that is 0."""


def zipf(num_tokens=2000, vocab_size=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = 1 / torch.arange(1, vocab_size + 1)
    return torch.multinomial(weights, num_tokens, replacement=True, generator=generator)


def in_turn(num_tokens=6000, classes=3, seed=0):
    """Three classes of twenty tokens in turn: bigram frequencies are of rank 3, but for chance."""
    generator = torch.Generator().manual_seed(seed)
    within = torch.randint(20, (num_tokens,), generator=generator)
    return classes * within + torch.arange(num_tokens) % classes


def one(tokens, order, dimensions=DIMENSIONS, **options):
    (found,) = ngram_dimensionality(tokens, orders=[order], dimensions=dimensions, **options)
    return found


def frequencies(tokens, order):
    """(C, V) and counts (C,), by a dictionary."""
    tokens = tokens.tolist()
    grams = [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
    contexts = {context: i for i, context in enumerate(dict.fromkeys(g[:-1] for g in grams))}
    columns = {token: i for i, token in enumerate(dict.fromkeys(g[-1] for g in grams))}
    counts = np.zeros((len(contexts), len(columns)))
    for gram, count in Counter(grams).items():
        counts[contexts[gram[:-1]], columns[gram[-1]]] = count
    return counts / counts.sum(1, keepdims=True), counts.sum(1)


def curve(spectrum):
    return [point.w_error for point in spectrum.errors]


def null(spectrum):
    return [point.w_error_null for point in spectrum.errors]


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("dense_up_to", [10_000, 0], ids=["dense", "Lanczos"])
def test_the_curve_is_that_of_the_singular_values_of_the_dense_matrix(order, dense_up_to):
    tokens = zipf()
    found = one(tokens, order, dense_up_to=dense_up_to)
    p, counts = frequencies(tokens, order)
    for spectrum, w in ((found.unweighted, p), (found.weighted, p * np.sqrt(counts)[:, None])):
        s = np.linalg.svd(w, compute_uv=False)
        expected = [np.linalg.norm(s[d:]) / np.linalg.norm(w) for d in DIMENSIONS]
        np.testing.assert_allclose(curve(spectrum), expected, atol=ROUNDING)
        gram = w.T @ w
        diagonal = np.sort(np.diag(gram))[::-1]
        expected = [np.sqrt(diagonal[d:].sum() / diagonal.sum()) for d in DIMENSIONS]
        np.testing.assert_allclose(null(spectrum), expected, atol=ROUNDING)
        off = np.linalg.norm(gram - np.diag(np.diag(gram))) / np.linalg.norm(gram)
        assert spectrum.off_diagonal_share == pytest.approx(off)
        half = np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0)) / np.linalg.norm(s) <= 0.5
        assert spectrum.half in (int(np.argmax(half)), None)
        assert spectrum.half is not None or dense_up_to == 0


@pytest.mark.parametrize("order", [2, 4])
def test_shares_are_those_of_a_count_by_dictionary(order):
    tokens = zipf()
    found, (p, counts) = one(tokens, order), frequencies(tokens, order)
    assert (found.num_contexts, found.num_columns) == p.shape
    assert found.num_predictions == counts.sum() == len(tokens) - order + 1
    assert found.seen_once_share == pytest.approx((counts == 1).mean())
    assert found.one_hot_share == pytest.approx((p.max(1) == 1).mean())


@pytest.mark.parametrize("order", [2, 3])
def test_where_every_context_is_new_the_curve_is_its_null_to_the_bit(order):
    found = one(torch.randperm(300, generator=torch.Generator().manual_seed(0)), order)
    assert (found.seen_once_share, found.one_hot_share) == (1, 1)
    for spectrum in (found.unweighted, found.weighted):
        assert curve(spectrum) == null(spectrum)
        assert spectrum.off_diagonal_share == 0
        assert spectrum.half == spectrum.half_null


def test_long_contexts_come_near_their_null_and_bigrams_depart_from_it():
    short, long = ngram_dimensionality(in_turn(), orders=[2, 5], dimensions=[3])
    (bigram,), (fivegram,) = short.unweighted.errors, long.unweighted.errors
    assert long.one_hot_share > 0.5 > short.one_hot_share
    assert bigram.w_error < 0.5 * bigram.w_error_null
    assert bigram.w_error_null - bigram.w_error > 5 * (fivegram.w_error_null - fivegram.w_error)
    assert long.unweighted.off_diagonal_share < short.unweighted.off_diagonal_share


@pytest.mark.parametrize("tokens", [zipf(), in_turn()], ids=["independent", "structured"])
def test_the_null_is_never_below_the_curve_and_both_fall_to_0(tokens):
    everything = list(range(1, 61))
    for found in ngram_dimensionality(tokens, dimensions=everything):
        for spectrum in (found.unweighted, found.weighted):
            for values in (curve(spectrum), null(spectrum)):
                assert values == sorted(values, reverse=True)
                assert values[-1] == 0
            pairs = list(zip(curve(spectrum), null(spectrum), strict=True))
            assert all(a <= b + ROUNDING for a, b in pairs)


def test_names_of_tokens_do_not_matter():
    tokens = zipf()
    names = torch.randperm(10**6, generator=torch.Generator().manual_seed(1))[:40] + 7
    for order in (2, 4):
        first, second = asdict(one(tokens, order)), asdict(one(names[tokens], order))
        for weighting in ("unweighted", "weighted"):
            a, b = first.pop(weighting), second.pop(weighting)
            for points in zip(a.pop("errors"), b.pop("errors"), strict=True):
                assert points[0] == pytest.approx(points[1], abs=ROUNDING)
            assert a == pytest.approx(b)
        assert first == second


def test_a_text_that_comes_twice_has_the_curves_of_the_text_and_no_context_seen_once():
    order, tokens = 3, zipf(500)
    round_trip = torch.cat([tokens, tokens[: order - 1]])
    once, twice = one(round_trip, order), one(torch.cat([tokens, round_trip]), order)
    assert twice.num_predictions == 2 * once.num_predictions
    assert (once.seen_once_share > 0, twice.seen_once_share) == (True, 0)
    for weighting in ("unweighted", "weighted"):
        a, b = getattr(once, weighting), getattr(twice, weighting)
        np.testing.assert_allclose(curve(a), curve(b), atol=ROUNDING)


def test_equal_eigenvalues_are_not_lost_by_lanczos():
    # 300 passages of one shape with three words of their own, of which the last comes once: no
    # row is shared by two passages, so each eigenvalue of W^T W stands there 299 times.
    passage = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 2])
    tokens = torch.cat([passage + 3 * i for i in range(300)])
    dimensions = [1, 5, 20, 50]
    exact = one(tokens, 2, dimensions)
    found = one(tokens, 2, dimensions, dense_up_to=0)
    np.testing.assert_allclose(curve(found.unweighted), curve(exact.unweighted), atol=ROUNDING)
    np.testing.assert_allclose(curve(found.weighted), curve(exact.weighted), atol=ROUNDING)


def test_beyond_the_eigenvalues_found_there_is_a_null_and_no_curve(monkeypatch):
    monkeypatch.setattr(ngrams, "LANCZOS", 6)
    found = one(zipf(), 2, [6, 7, 1000], dense_up_to=10).unweighted
    assert found.num_eigenvalues == 6
    assert [error is None for error in curve(found)] == [False, True, True]
    assert null(found)[-1] == 0
    assert found.half is None or found.half <= 6


def test_results_come_in_the_order_asked_for_and_are_json():
    found = ngram_dimensionality(zipf(300), orders=[4, 2])
    assert [one.order for one in found] == [4, 2]
    json_text({"ngrams": [asdict(one) for one in found]})


def test_progress_reaches_its_end():
    calls = []
    ngram_dimensionality(
        zipf(200), orders=[2, 3], dimensions=[1], progress=lambda *call: calls.append(call)
    )
    assert [call[1:] for call in calls] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("tokens", "options", "said"),
    [
        (torch.zeros(3, 3, dtype=torch.int64), {}, r"vector of token ids.*\(3, 3\)"),
        (torch.zeros(9), {}, "vector of token ids.*float32"),
        (torch.arange(4), {}, "5-grams need a text of 5 tokens at least, got 4"),
        (torch.arange(9), {"orders": [1]}, "order of an n-gram is 2 or more"),
        (torch.arange(9), {"orders": []}, "order of an n-gram is 2 or more"),
        (torch.arange(9), {"dimensions": [0]}, "d of 1 or more"),
    ],
)
def test_what_cannot_be_counted_is_refused(tokens, options, said):
    with pytest.raises(WideneckError, match=said):
        ngram_dimensionality(tokens, **options)
