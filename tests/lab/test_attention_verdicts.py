"""Every verdict on a statement about attention says yes, no and undecided, and none by a formula
that is derived."""

from dataclasses import replace

import pytest

from report.attention_examples import attention_audit
from wideneck.lab.attention.claims import (
    CHECKS,
    Check,
    claim_words,
    judged_claims,
    judged_numbers,
)
from wideneck.lab.published import published_results
from wideneck.lab.verdict import DESCRIBED, NOT_MEASURED

AUDIT = attention_audit()
PUBLISHED = published_results("attention")


def with_lengths(**of_length):
    return replace(AUDIT, by_length=[changed(p, of_length) for p in AUDIT.by_length])


def with_sizes(**of_size):
    return replace(AUDIT, by_size=[changed(p, of_size) for p in AUDIT.by_size])


def with_medians(of_size):
    return with_sizes(separability=lambda p: replace(p.separability, median=of_size(p.size)))


def with_steps(**of_step):
    return replace(AUDIT, by_step=[changed(p, of_step) for p in AUDIT.by_step])


def changed(point, functions):
    return replace(point, **{name: function(point) for name, function in functions.items()})


def heads(of_step):
    return with_steps(largest_head=of_step)


PLANTED = {  # (claim, ours): an audit in which it holds, and one in which it does not
    "exponent of L, N = 5": (
        with_lengths(distance=lambda p: float(p.length)),
        with_lengths(distance=lambda p: p.length**0.5),
    ),
    "exponent of L, Monte Carlo": (
        with_lengths(expected_monte_carlo=lambda p: float(p.length)),
        with_lengths(expected_monte_carlo=lambda p: p.length**1.5),
    ),
    "distance at N = 100 / at 20": (
        with_sizes(distance=lambda p: 7.0),
        with_sizes(distance=lambda p: float(p.size)),
    ),
    "distance / expectation, N = 100": (
        with_sizes(distance=lambda p: 7.0, expected_monte_carlo=lambda p: 7.0),
        with_sizes(distance=lambda p: 7.0, expected_monte_carlo=lambda p: 10.0),
    ),
    "largest ratio to the N before": (
        with_medians(lambda size: 1 / size),
        with_medians(lambda size: size / 200),
    ),
    "lowest median over heads": (with_medians(lambda size: 0.75), with_medians(lambda size: 0.5)),
    "highest median over heads": (with_medians(lambda size: 0.75), with_medians(lambda size: 0.9)),
    "exponent of T, T on q k": (heads(lambda p: 1 / p.temperature), heads(lambda p: 1.0)),
    "exponent of T, T on scaled q k": (
        heads(lambda p: 1 / p.temperature),
        heads(lambda p: p.temperature**-2),
    ),
    "step 0.001 / step 10, T = 0.1": (
        heads(lambda p: 1 / p.step),
        heads(lambda p: p.step),
    ),
    "largest ratio of two steps": (
        heads(lambda p: 1 / p.temperature),
        heads(lambda p: 1 / p.temperature + p.step),
    ),
    "largest over T / at T = 1": (
        heads(lambda p: p.temperature**-1.2),
        heads(lambda p: 1.0),
    ),
    "exact norm / bound, largest row": (
        with_steps(spectral_highest=lambda p: 0.9 * p.paper_bound),
        with_steps(spectral_highest=lambda p: (1.1 if p.temperature == 3 else 0.5) * p.paper_bound),
    ),
}
JUDGED = [check for check in CHECKS if not check.derived]


def words(check, audits):
    (found,) = (one for one in judged_claims(PUBLISHED, audits) if one.ours == check.ours)
    return found.words


def test_every_judged_statement_is_planted():
    assert {check.ours for check in JUDGED} == PLANTED.keys()


@pytest.mark.parametrize("check", JUDGED, ids=lambda check: check.ours)
def test_a_statement_can_be_held_denied_and_left_undecided(check):
    holds, fails = PLANTED[check.ours]
    unknown = replace(AUDIT, by_size=[], by_length=[], by_step=[])
    assert words(check, [holds, holds]) == "holds"
    assert words(check, [fails, fails]) == "does not hold"
    assert words(check, [holds]) == "holds"
    assert words(check, [fails]) == "does not hold"
    assert words(check, [unknown, unknown]) == NOT_MEASURED
    mixed = "does not hold" if check.every_row else "1 of 2 seeds"
    assert words(check, [holds, fails]) == words(check, [fails, holds]) == mixed


def test_a_statement_about_each_row_is_not_held_by_a_mean():
    """Means far below the bound, and one row above it."""
    audit = with_steps(
        spectral=lambda p: 0.1 * p.paper_bound, spectral_highest=lambda p: 1.01 * p.paper_bound
    )
    (check,) = (check for check in CHECKS if check.every_row)
    assert check.claim == "corollary_3"
    assert words(check, [audit]) == "does not hold"


def test_the_ends_of_a_range_belong_to_it():
    check = Check(claim="a", ours="b", figure=lambda audit: None, low=0.8, high=1.2)
    for value, said in ((0.8, "holds"), (1.2, "holds"), (0.79, "does not hold"), (1.21, None)):
        assert claim_words(check, [value]) == (said or "does not hold")
    assert claim_words(check, [1.0, None]) == "1 of 2 seeds"


@pytest.mark.parametrize("check", [c for c in CHECKS if c.derived], ids=lambda c: c.ours)
def test_nothing_is_judged_by_a_derived_formula(check):
    """Neither a bound that is broken nor one that is far off says anything of the paper's."""
    broken = with_sizes(
        bound=lambda p: 0.5 * p.distance,
        separability_upper=lambda p: 0.0,
        separability_lower=lambda p: 1.0,
    )
    for audit in (AUDIT, broken):
        (found,) = (x for x in judged_claims(PUBLISHED, [audit]) if x.ours == check.ours)
        assert found.words == DESCRIBED
        assert (found.low, found.high) == (None, None)
        assert found.figure is not None
        assert found.derived.startswith("theorem")
    assert words(check, [replace(AUDIT, by_size=[])]) == NOT_MEASURED


def test_the_derived_statements_are_those_of_the_specification():
    derived = {check.claim: check.derived for check in CHECKS if check.derived}
    assert derived == {
        "bound_holds": "theorem 1's bracket",
        "bound_conservative": "theorem 1's bracket",
        "upper_tracks": "theorem 2",
        "lower_loose": "theorem 2",
    }
    assert not {check.claim for check in JUDGED} & derived.keys()


def test_the_critical_n_is_judged_by_random_sets_alone():
    """0.06 of the context of 512 tokens is N = 30.7; p-values rise above the level at N = 31."""
    near = changed_p_values(30)
    far = changed_p_values(5)
    never = changed_p_values(1000)
    assert critical([near] * 3) == "outside, above"  # 31 / 512, the same in every seed
    assert critical([changed_p_values(n) for n in (27, 30, 34)]) == "within the spreads"
    assert critical([far] * 3) == "outside, below"
    assert critical([near]) == "no spread to judge by"
    assert critical([near, never]) == "none in 1 of 2 seeds"
    for one in judged_numbers(PUBLISHED, [near] * 3, ""):
        if one.derived:
            assert one.ours.startswith(("derived main term", "our upper bound"))
            assert one.verdict.words == DESCRIBED
            assert one.verdict.gap == pytest.approx(31 / 512 - 0.06)


def changed_p_values(rejected):
    """Every N up to `rejected` is rejected at either level."""
    p_values = [0.0] * rejected + [0.5] * 10
    if rejected == 1000:
        p_values = [0.0] * 100
    return replace(AUDIT, critical=[replace(p, p_values=p_values) for p in AUDIT.critical])


def critical(audits):
    found = {one.ours: one.verdict.words for one in judged_numbers(PUBLISHED, audits, "")}
    assert found["Monte Carlo, level 0.01"] == found["Monte Carlo, level 0.05"]
    return found["Monte Carlo, level 0.01"]


def test_each_expectation_and_level_has_a_critical_n_of_its_own():
    """p-values pass 0.01 at N = k and 0.05 at N = k + 3, k another for each expectation."""
    first = {"monte_carlo": 5, "paper": 9, "upper": 20}
    audit = replace(
        AUDIT,
        critical=[
            replace(p, p_values=[0.0] * (first[p.expectation] - 1) + [0.02] * 3 + [0.2] * 9)
            for p in AUDIT.critical
        ],
    )
    found = {one.ours: one.values for one in judged_numbers(PUBLISHED, [audit], "")}
    for name, k in zip(
        ("Monte Carlo", "derived main term", "our upper bound"), (5, 9, 20), strict=True
    ):
        assert found[f"{name}, level 0.01"] == [k / 512]
        assert found[f"{name}, level 0.05"] == [(k + 3) / 512]


def test_curves_that_part_at_t_1_alone_do_not_fall_together():
    (check,) = (check for check in CHECKS if check.claim == "collapse")
    apart = heads(lambda p: 1 + (p.temperature == 1) * (p.step > 1))
    assert words(check, [apart]) == "does not hold"
    below = heads(lambda p: 1 + (p.temperature < 1) * p.step)
    assert words(check, [below]) == "holds"


def test_what_stays_the_same_does_not_fall():
    found = {c.ours: c.words for c in judged_claims(PUBLISHED, [with_medians(lambda size: 0.9)])}
    assert found["largest ratio to the N before"] == "does not hold"
