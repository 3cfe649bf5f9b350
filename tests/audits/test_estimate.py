"""Intervals over documents."""

import numpy as np
import pytest
import torch

from wideneck.audits.estimate import estimate
from wideneck.audits.unequal_groups import half_width


def test_the_value_is_the_mean_over_tokens():
    values = torch.rand(6, 10)
    assert estimate(values, torch.arange(6)).value == pytest.approx(values.mean().item())


def test_tokens_that_do_not_count_change_nothing_but_the_denominator():
    values, document = torch.rand(6, 10), torch.arange(6)
    counted = torch.rand(6, 10) < 0.6
    found = estimate(torch.where(counted, values, torch.nan), document, counted)
    assert found.value == pytest.approx(values[counted].mean().item())
    everything = estimate(values, document, torch.ones(6, 10, dtype=torch.bool))
    assert everything == estimate(values, document)


def test_equal_groups_give_the_t_interval_of_their_means():
    from scipy.stats import t as student

    means = torch.tensor([1.0, 2.0, 4.0, 5.0])
    found = estimate(means[:, None].expand(4, 7), torch.arange(4))
    half = student.ppf(0.975, 3) * means.std().item() / 2
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert (found.over, found.num_groups) == ("documents", 4)


def test_one_document_falls_back_to_windows_and_says_so():
    found = estimate(torch.rand(5, 4), torch.zeros(5, dtype=torch.long))
    assert (found.over, found.num_groups) == ("windows", 5)


def test_a_single_window_has_no_interval():
    found = estimate(torch.rand(1, 4), torch.zeros(1, dtype=torch.long))
    assert found.low is None
    assert found.high is None


def test_documents_without_a_token_that_counts_are_no_documents():
    """One document has all: its mean is known without error, and that of others not at all."""
    counted = torch.zeros(3, 4, dtype=torch.bool)
    counted[1] = True
    found = estimate(torch.rand(3, 4), torch.arange(3), counted)
    assert (found.over, found.num_groups, found.effective_groups) == ("documents", 1, 1.0)
    assert found.low is found.high is None


def test_the_effective_number_is_of_the_tokens_that_count():
    counted = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0]]).bool()
    found = estimate(torch.rand(3, 3), torch.tensor([5, 5, 8]), counted)
    assert (found.num_groups, found.effective_groups) == (2, pytest.approx(49 / 37))
    assert found.low is None


def test_a_scale_moves_value_and_ends_and_nothing_else():
    found = estimate(torch.rand(4, 3), torch.arange(4))
    twice = found.map(lambda x: 2 * x + 1)
    assert (twice.value, twice.low, twice.high) == pytest.approx(
        (2 * found.value + 1, 2 * found.low + 1, 2 * found.high + 1)
    )
    assert (twice.over, twice.num_groups, twice.effective_groups) == ("documents", 4, 4.0)


def test_the_interval_is_that_of_the_sums_and_counts_of_documents():
    """Windows of a document lie apart, and its tokens count in part."""
    generator = torch.Generator().manual_seed(0)
    document = torch.tensor([7, 2, 7, 9, 2, 7, 4])
    values = torch.randn(7, 5, generator=generator)
    counted = torch.rand(7, 5, generator=generator) < 0.6
    sums, counts = dict.fromkeys((2, 4, 7, 9), 0.0), dict.fromkeys((2, 4, 7, 9), 0)
    for w in range(7):
        for t in range(5):
            if counted[w, t]:
                sums[int(document[w])] += values[w, t].item()
                counts[int(document[w])] += 1
    half = half_width(np.array([*sums.values()]), np.array([*counts.values()], dtype=float))
    mean = sum(sums.values()) / sum(counts.values())
    found = estimate(values, document, counted)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-6)
