"""The scan over N against one direct computation for each N; the test on means that are known."""

import pytest
import torch

from audits.attention.attention_layers import KINDS, layer, seeded
from wideneck.audits.attention import selection
from wideneck.audits.attention.critical import critical_size, scan_sizes
from wideneck.audits.attention.distance import selection_distances

SUMS = ["each", "expected_paper", "expected_upper", "expected_monte_carlo"]
HEADS = 144


def scan(args, max_size, seed=0):
    return scan_sizes(*args, max_size, generator=seeded(seed))


@pytest.mark.parametrize("block", [20, 2**16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_scan_gives_the_direct_sums_of_every_size(kind, block, monkeypatch):
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", block)
    args = layer(kind)
    found = scan(args, 12)
    direct = selection_distances(*args, range(1, 13), generator=seeded(0))
    for name in SUMS:
        torch.testing.assert_close(getattr(found, name), getattr(direct, name).nansum(-1), msg=name)
    assert torch.equal(found.count, (~direct.each.isnan()).sum(-1))


def test_the_scan_of_float32_gives_the_sums_of_float64():
    weights, vectors, visible = layer("causal")
    narrow = scan((weights.float(), vectors.float(), visible), 8)
    wide = scan((weights.float().double(), vectors.float().double(), visible), 8)
    for name in SUMS[:-1]:  # random sets differ by the type of the random numbers
        found = getattr(narrow, name)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), getattr(wide, name).float())


def test_scans_of_two_windows_add_up():
    one, other = scan(layer("causal", 1), 5), scan(layer("causal", 2), 5)
    both = one + other
    for name in (*SUMS, "count"):
        assert torch.equal(getattr(both, name), getattr(one, name) + getattr(other, name))


def samples(*shifts):
    """Means of 144 heads for each N: what is expected, and the same heads shifted."""
    expected = torch.linspace(0, 1, HEADS, dtype=torch.float64).repeat(len(shifts), 1)
    return expected + torch.tensor(shifts)[:, None], expected


def test_the_first_size_whose_means_are_those_expected_is_critical():
    found = critical_size(*samples(10, 10, 10, 0, 10, 0))
    assert found.size == 4
    assert found.statistics == [1, 1, 1, 0, 1, 0]
    assert found.p_values[3] == 1
    assert max(found.p_values[:3]) < 1e-80


def test_no_size_is_critical_if_all_are_rejected():
    assert critical_size(*samples(10, -10)).size is None


def test_heads_in_another_order_are_the_same_sample():
    distance, expected = samples(0)
    assert critical_size(distance.flip(1), expected).statistics == [0]


def test_a_higher_level_rejects_more():
    # A shift by 0.174 leaves 25 of 144 heads beyond the others: p = 0.026 asymptotically.
    args = samples(0.174)
    p = critical_size(*args).p_values[0]
    assert 0.01 < p < 0.05
    assert critical_size(*args, level=0.01).size == 1
    assert critical_size(*args, level=0.05).size is None


def test_the_statistic_is_the_largest_gap_of_the_distribution_functions():
    distance, expected = samples(0.3)
    points = torch.cat([distance[0], expected[0]])
    gaps = [((distance[0] <= t).sum() - (expected[0] <= t).sum()).abs() / HEADS for t in points]
    assert critical_size(distance, expected).statistics[0] == pytest.approx(max(gaps).item())


def test_the_scan_ends_where_a_head_has_no_row():
    distance, expected = samples(10, 10, 0)
    distance[1, 7] = torch.nan
    found = critical_size(distance, expected)
    assert found.size is None
    assert len(found.p_values) == 1
