"""Figures of an audit against curves whose law is known, and what is said of them."""

import math
from dataclasses import replace

import pytest

from report.attention_examples import attention_audit
from wideneck.lab.attention import figures
from wideneck.lab.attention.claims import CHECKS, NOT_COMPARED, judged_claims, judged_numbers
from wideneck.lab.published import published_results

AUDIT = attention_audit()


def changed(audit, field, **functions):
    """Every point of a curve with some of its fields replaced by functions of the point."""
    points = [
        replace(point, **{name: function(point) for name, function in functions.items()})
        for point in getattr(audit, field)
    ]
    return replace(audit, **{field: points})


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_an_exponent_of_length_is_that_of_a_power_law(power):
    audit = changed(AUDIT, "by_length", distance=lambda p: 3 * p.length**power)
    assert figures.length_exponent("distance")(audit) == pytest.approx(power)
    audit = changed(audit, "by_length", distance=lambda p: None)
    assert figures.length_exponent("distance")(audit) is None


def test_a_cold_exponent_is_that_below_t_of_a_tenth_in_either_unit():
    """1 / T up to T = 0.5, flat above; the model's own T is 8."""
    audit = changed(
        AUDIT, "by_step", largest_head=lambda p: 1 / min(p.temperature, 0.5) + p.step * 0.01
    )
    assert figures.cold_exponent(scaled=False)(audit) == pytest.approx(-1, abs=1e-4)
    assert figures.cold_exponent(scaled=True)(audit) == pytest.approx(-1, abs=1e-4)
    flat = changed(AUDIT, "by_step", largest_head=lambda p: 1.0 if p.temperature <= 0.1 else 0.1)
    assert figures.cold_exponent(scaled=False)(flat) == pytest.approx(0)
    assert figures.cold_exponent(scaled=True)(flat) < -0.5


def test_ratios_are_those_of_the_points_that_they_name():
    audit = changed(AUDIT, "by_size", distance=lambda p: 100.0 + p.size, bound=lambda p: 300.0)
    assert figures.distance_ratio(100, 20)(audit) == pytest.approx(200 / 120)
    assert figures.distance_ratio(100, 7)(audit) is None
    assert figures.bound_ratio(audit) == pytest.approx(300 / 105)
    assert figures.smallest_bound_ratio(audit) == pytest.approx(1.5)
    audit = changed(audit, "by_size", expected_monte_carlo=lambda p: 50.0)
    assert figures.distance_over_expectation(100)(audit) == pytest.approx(4)


def test_figures_of_the_separability_look_at_the_sizes_they_say():
    medians = {1: 1.0, 5: 0.9, 10: 0.95, 20: 0.6, 100: 0.8}
    audit = changed(
        AUDIT,
        "by_size",
        separability=lambda p: replace(
            p.separability, median=medians[p.size], highest=1 - p.size / 200
        ),
        separability_upper=lambda p: 0.99,
        separability_lower=lambda p: None if p.size == 10 else -p.size / 100,
    )
    assert figures.largest_step_of_separability(audit) == pytest.approx(0.95 / 0.9)
    assert figures.separability_past_bend(min)(audit) == 0.6
    assert figures.separability_past_bend(max)(audit) == 0.8
    assert figures.best_head(audit) == pytest.approx(0.9)
    assert figures.upper_distance(audit) == pytest.approx(0.49)
    assert figures.lower_distance(audit) == pytest.approx(0.6 + 0.2)


def test_a_point_at_0_is_not_left_out_of_what_it_would_deny():
    """Of a curve that goes to 0 no exponent is told, and no ratio to such a point."""

    def cold(p):
        return 0.0 if p.temperature == coldest else 1 / p.temperature

    coldest = min(p.temperature for p in AUDIT.by_step)
    assert figures.cold_exponent(scaled=True)(changed(AUDIT, "by_step", largest_head=cold)) is None
    audit = changed(AUDIT, "by_step", largest_head=lambda p: float(p.step == AUDIT.by_step[0].step))
    assert figures.step_spread(audit) is None
    medians = {1: 0.0, 5: 0.9, 10: 0.8, 20: 0.6, 100: 0.8}
    audit = changed(
        AUDIT,
        "by_size",
        separability=lambda p: replace(p.separability, median=medians[p.size]),
    )
    assert figures.largest_step_of_separability(audit) is None  # it rises from 0
    audit = changed(AUDIT, "by_length", distance=lambda p: p.length - AUDIT.by_length[0].length)
    assert figures.length_exponent("distance")(audit) is None


def test_figures_of_the_steps_are_ratios_at_one_temperature():
    heads = {1e-3: 8.0, 1e-1: 4.0, 10.0: 1.0}
    audit = changed(AUDIT, "by_step", largest_head=lambda p: heads[p.step] / p.temperature)
    assert figures.step_ratio(audit) == pytest.approx(8)
    assert figures.step_spread(audit) == pytest.approx(8)
    assert figures.drop(audit) == pytest.approx(1 / 0.03)
    audit = changed(audit, "by_step", spectral_highest=lambda p: 0.4 / p.temperature)
    largest = max(0.4 / t / min(0.25 / t, math.sqrt(2)) for t in (0.03, 0.1, 0.3, 1.0))
    assert figures.largest_norm_ratio(audit) == pytest.approx(largest)


def test_the_critical_n_is_read_off_the_p_values_at_any_level():
    """p = 1e-5 1.6^N, of a context of 512."""
    for level in (0.01, 0.05):
        size = math.floor(math.log(level / 1e-5) / math.log(1.6)) + 1
        found = figures.critical_share("monte_carlo", level)(AUDIT)
        assert found == pytest.approx(size / 512)
    never = changed(AUDIT, "critical", p_values=lambda p: [0.01, 0.0])
    assert figures.critical_share("upper", 0.01)(never) is None  # p = level rejects


def test_every_statement_has_a_figure_or_a_reason():
    published = published_results("attention")
    names = {claim.name for claim in published.claims}
    assert names == {check.claim for check in CHECKS} | set(NOT_COMPARED)
    assert not {check.claim for check in CHECKS} & set(NOT_COMPARED)


def test_a_statement_holds_where_it_does_in_every_seed():
    published = published_results("attention")
    linear = changed(AUDIT, "by_length", distance=lambda p: float(p.length))
    flat = changed(AUDIT, "by_length", distance=lambda p: 1.0)
    unknown = changed(AUDIT, "by_length", distance=lambda p: None)
    for audits, words in (
        ([linear, linear], "holds"),
        ([flat, flat], "does not hold"),
        ([linear, flat, flat], "1 of 3 seeds"),
        ([unknown], "not measured"),
    ):
        found = judged_claims(published, audits)
        assert len(found) == len(CHECKS)
        (one,) = (claim for claim in found if claim.published.name == "distance_linear")
        assert one.words == words
        assert len(one.values) == len(audits)


def test_a_model_without_a_softmax_has_no_finite_differences():
    audit = attention_audit(closed_form=False, normalizer="stickbreaking")
    found = {
        one.published.name: one.words
        for one in judged_claims(published_results("attention"), [audit])
    }
    for name in ("inverse_temperature", "smaller_steps", "collapse", "two_orders", "corollary_3"):
        assert found[name] == "not measured"


def test_numbers_are_judged_on_the_paper_s_model_alone():
    published = published_results("attention")
    never = changed(AUDIT, "critical", p_values=lambda p: [0.0])
    here = judged_numbers(published, [AUDIT, AUDIT, AUDIT], "")
    assert len(here) == 6 + 2 + 1
    assert {one.published.value for one in here} == {0.06, 0.70, 0.85, 0.80}
    assert here[0].verdict.words.startswith(("within", "outside"))
    assert here[0].verdict.gap == pytest.approx(here[0].figure.mean - 0.06)
    elsewhere = judged_numbers(published, [AUDIT, never], "another model")
    assert {one.verdict.words for one in elsewhere if not one.derived} == {
        "not comparable: another model"
    }
    assert elsewhere[0].values[1] is None
    assert elsewhere[0].figure is None
    assert judged_numbers(published, [AUDIT, never], "")[0].verdict.words == (
        "none in 1 of 2 seeds"
    )
