"""Rank correlations of heads' measures with the loss of ablation, on heads that are made up."""

import math

import pytest

from wideneck.audits.attention.results import HeadMeasures
from wideneck.audits.attention.section import LINKED, _links
from wideneck.audits.estimate import Estimate


def heads(values, losses, num_layers=2):
    """Heads layer by layer whose `spread` is `values`; of the other measures all are alike."""
    per_layer = len(values) // num_layers
    alike = dict.fromkeys(["entropy", *LINKED], 1.0) | {"sink_share": 0.0}
    return [
        HeadMeasures(
            layer=i // per_layer + 1,
            head=i % per_layer + 1,
            **alike | {"spread": value},
            jacobian_spectral=None,
            jacobian_frobenius=None,
            ablation=Estimate(
                value=loss,
                low=None,
                high=None,
                over="documents",
                num_groups=1,
                effective_groups=1.0,
            ),
        )
        for i, (value, loss) in enumerate(zip(values, losses, strict=True))
    ]


def linked(values, losses, num_layers=2):
    """The one link, of `spread`."""
    (link,) = _links(heads(values, losses, num_layers))
    assert link.measure == "spread"
    return link.spearman, link.spearman_without_depth


def test_a_measure_that_rises_with_the_loss_has_1_and_one_that_falls_has_minus_1():
    rising = [0.1, 0.2, 0.5, 0.9]
    assert linked(rising, [1.0, 2.0, 3.0, 40.0]) == pytest.approx((1, 1))
    assert linked(rising, [4.0, 3.0, 2.0, -1.0]) == pytest.approx((-1, -1))


def test_depth_is_taken_off_both():
    """Within each layer the measure rises with the loss, and from layer to layer it falls."""
    spearman, without_depth = linked([5.0, 6, 7, 1, 2, 3], [1.0, 2, 3, 5, 6, 7])
    assert spearman == pytest.approx(
        -19 / 35
    )  # six ranks that are off by 3: 1 - 6 (6 3^2) / (6 (6^2 - 1))
    assert without_depth == pytest.approx(1)


def test_nothing_is_left_of_a_measure_that_depth_explains():
    spearman, without_depth = linked([1.0, 1, 2, 2], [1.0, 3, 2, 4])
    assert spearman == pytest.approx(1 / math.sqrt(5))
    assert without_depth is None


def test_heads_of_one_layer_have_no_depth_to_take_off():
    assert linked([1.0, 3, 2], [1.0, 2, 3], num_layers=1) == pytest.approx((0.5, 0.5))


def test_values_that_rounding_tells_apart_have_one_rank():
    third = 1 / 3
    losses = [1.0, 2.0, 3.0, 4.0]
    parted = linked([third, third * (1 + 9e-8), 0.5, 0.5 * (1 - 9e-8)], losses)
    assert parted == linked([third, third, 0.5, 0.5], losses)
    assert linked([third, third * (1 + 1e-5), 0.5, 0.6], losses)[0] == pytest.approx(1)
    assert _links(heads([third, third * (1 + 9e-8)] * 2, losses)) == []


def test_a_measure_or_a_loss_that_is_the_same_in_all_heads_has_no_link():
    assert _links(heads([1.0] * 4, [1.0, 2, 3, 4])) == []
    assert _links(heads([1.0, 2, 3, 4], [1.0] * 4)) == []


def test_a_measure_that_is_not_known_of_some_head_has_no_correlation():
    spearman, without_depth = linked([1.0, math.nan, 3, 4], [1.0, 2, 3, 4])
    assert math.isnan(spearman)
    assert without_depth is None
