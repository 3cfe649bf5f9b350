"""What may be said of our number beside a published one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind_from_stats, ttest_rel

from wideneck.lab.published import PublishedResult
from wideneck.lab.spread import Spread, cell, paired, spread
from wideneck.lab.verdict import judge, judge_difference, published_cell


def result(value, std=None, seeds=None, status="verified"):
    return PublishedResult(
        table="Table 2",
        data="PTB",
        row="softmax",
        measure="test perplexity",
        value=value,
        spread=std,
        seeds=seeds,
        status=status,
        printed=f"{value}",
    )


def ours(mean, std=None):
    return Spread(mean=mean, std=std)


def differences(mean, std):
    """Three of that mean and deviation, or one."""
    return paired([mean] if std is None else [mean - std, mean, mean + std])


positive = st.floats(0.01, 10)


@given(st.floats(-5, 5), positive, st.integers(2, 12), positive, st.integers(2, 12))
def test_two_means_are_told_apart_where_welch_s_test_rejects(gap, a, num_a, b, num_b):
    verdict = judge(result(50.0, b, num_b), ours(50.0 + gap, a), num_a)
    p = ttest_ind_from_stats(50.0 + gap, a, num_a, 50.0, b, num_b, equal_var=False).pvalue
    if abs(p - 0.05) > 1e-6:
        assert verdict.words == (
            "within the spreads" if p > 0.05 else f"outside, {'above' if gap > 0 else 'below'}"
        )
    assert verdict.gap == pytest.approx(gap)
    assert (verdict.low + verdict.high) / 2 == pytest.approx(gap)


def test_a_number_without_a_spread_counts_as_one_more_run():
    """An interval from 3 runs holds the next one in 95 % of cases."""
    torch.manual_seed(0)
    draws = torch.randn(4000, 4, dtype=torch.float64)
    held = 0
    for runs in draws.tolist():
        verdict = judge(result(runs[3]), spread(runs[:3]), 3)
        held += verdict.words == "within the spreads"
    assert held / 4000 == pytest.approx(0.95, abs=0.01)
    published = judge(result(1.0, 0.2, 11), ours(1.1), 1)
    swapped = judge(result(1.1), ours(1.0, 0.2), 11)
    assert published.high == pytest.approx(-swapped.low)


def test_nothing_is_said_where_there_is_nothing_to_say_it_by():
    assert judge(result(50.0), ours(51.0), 1).words == "no spread to judge by"
    assert judge(result(50.0, 0.1, 1), ours(51.0), 1).low is None
    missing = judge(result(50.0, 0.1, 5), None, 3)
    assert (missing.gap, missing.words) == (None, "not measured")


def test_what_is_recalled_is_shown_as_such_and_never_compared():
    recalled = result(49.2, 0.4, 5, status="recalled")
    assert published_cell(recalled) == "49.2 (recalled, not checked)"
    for seeds, mine in ((3, ours(49.2, 0.1)), (3, None)):
        verdict = judge(recalled, mine, seeds)
        assert (verdict.gap, verdict.words) == (None, "recalled, not checked")
    for pair in ((recalled, result(50.0)), (result(50.0), recalled)):
        found = judge_difference(*pair, differences(1.0, 0.1))
        assert (found.gap, found.words) == (None, "recalled, not checked")


def test_another_scale_has_a_gap_and_no_verdict():
    verdict = judge(result(57.08, 0.09, 11), ours(180.0, 1.0), 3, other="another scale")
    assert verdict.gap == pytest.approx(122.92)
    assert verdict.words == "not comparable: another scale"


@pytest.mark.parametrize(
    ("published", "ours", "words"),
    [
        (-2.0, (-10.0, 0.5), "same sign"),
        (-2.0, (10.0, 0.5), "opposite sign"),
        (-2.0, (-1.0, 2.0), "not seen here"),
        (-0.03, (-1.0, 0.1), "seen here only"),
        (-0.03, (0.1, 0.5), "no difference in either"),
        (-2.0, (-10.0, None), "one seed, not judged"),
        (-2.0, None, "not measured"),
    ],
)
def test_differences_of_rows_are_compared_by_their_sign(published, ours, words):
    more, less = result(57.0 + published, 0.15, 11), result(57.0, 0.09, 11)
    mine = None if ours is None else differences(*ours)
    found = judge_difference(more, less, mine)
    assert found.words == words
    assert found.gap == pytest.approx(published)
    assert found.low < published < found.high


def test_the_interval_of_our_differences_is_student_s():
    torch.manual_seed(1)
    a, b = torch.randn(2, 5, dtype=torch.float64)
    expected = ttest_rel(a.numpy(), b.numpy()).confidence_interval(0.95)
    ends = ((expected.high, -1e-6, "opposite sign"), (expected.low, 1e-6, "same sign"))
    for end, outside, words in ends:
        for beyond, said in ((outside, words), (-outside, "not seen here")):
            moved = paired((a - b - end + beyond).tolist())
            assert judge_difference(result(2.0), result(1.0), moved).words == said


def test_a_difference_without_spreads_is_taken_as_printed():
    found = judge_difference(result(57.7), result(58.0), differences(-1.0, 0.1))
    assert found.words == "same sign"
    assert found.low is None


def test_spreads_of_zero_leave_only_equal_numbers_within():
    assert judge(result(402, 0.0, 11), ours(402, 0.0), 3).words == "within the spreads"
    assert judge(result(402, 0.0, 11), ours(403, 0.0), 3).words == "outside, above"


def test_a_cell_has_mean_and_deviation():
    assert cell(spread([1.0, 2.0, 3.0])) == "2.0 \N{PLUS-MINUS SIGN} 1.0"
    assert cell(spread([2.0]), 2, sign=True) == "+2.00"


@pytest.mark.parametrize("mean", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_measured_and_has_no_side(mean):
    diverged = ours(mean, float("nan"))
    verdict = judge(result(50.0, 0.1, 5), diverged, 3)
    assert (verdict.words, verdict.gap) == ("not measured", None)
    lost = replace(differences(1.0, 0.1), mean=mean, low=mean, high=mean)
    difference = judge_difference(result(51.0, 0.1, 5), result(50.0, 0.1, 5), lost)
    assert (difference.words, difference.gap) == ("not measured", 1.0)
