"""Rows and cells of a task's page."""

import pytest

from wideneck.audits.estimate import Estimate
from wideneck.lab.spread import paired
from wideneck.lab.tasks.comparing import COMPARED, Difference
from wideneck.lab.tasks.table import _apart, _cells, named
from wideneck.lab.tasks.views import WRITTEN


def test_a_row_says_how_its_memory_is_used_where_that_is_not_how_it_was_trained():
    names = [named((name, view)) for name, views in WRITTEN.items() for view in views]
    assert names == [
        "plain",
        "plain, cache fitted",
        "plain + ranking",
        "plain + ranking, cache fitted",
        "TRIME",
        "TRIME, memory off",
        "HistAlign",
        "HistAlign, memory off",
    ]
    for pair in COMPARED:
        for name, view in pair:
            assert view in WRITTEN[name]


def test_a_share_is_written_in_percent_and_a_loss_is_not():
    over = Estimate(
        value=-0.02, low=-0.05, high=0.01, over="documents", num_groups=9, effective_groups=9.0
    )
    one = Difference(
        ours=("trime", "full"),
        theirs=("cross_entropy", "off"),
        figures={"true": paired([0.10, 0.12, 0.11]), "loss": paired([-0.5])},
        visible={"true": 0.034},
        documents={"true": over},
    )
    shown = _apart(one, "true", "%+.1f")
    assert shown.label == "TRIME - plain"
    assert shown.seeds == "+11.0 [+8.5, +13.5]"  # 2.48 deviations of 1 point on either side
    assert shown.texts == "-2.0 [-5.0, +1.0]"
    assert shown.visible == "3.4"
    lost = _apart(one, "loss", "+.3f")
    assert (lost.seeds, lost.texts, lost.visible) == ("-0.500", "", "")


def test_what_no_model_wrote_has_both_forms():
    assert _cells({"words": 8.25, "true": 0.125}) == {
        "words": "8.25",
        "true": "0.12",
        "words.percent": "825.0",
        "true.percent": "12.5",
    }


def test_the_visible_difference_is_the_one_that_its_seeds_would_see():
    """A paired test of n differences with noncentrality sqrt(n) * effect / deviation."""
    from scipy.stats import nct, t

    found = paired([0.3, 0.5, 0.7])
    size = found.visible / found.std * 3**0.5
    limit = t.ppf(0.975, 2)
    assert nct.sf(limit, 2, size) + nct.cdf(-limit, 2, size) == pytest.approx(0.8, abs=1e-6)
    assert paired([0.3]).visible is None
