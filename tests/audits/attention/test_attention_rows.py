"""Entropy and sinks of rows of attention weights."""

import math

import pytest
import torch

from wideneck.audits.attention.collect import entropy, sink_importance


def random_rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 7, generator=generator, dtype=torch.float64).softmax(-1)


def test_entropy_follows_its_formula():
    p = random_rows()
    torch.testing.assert_close(entropy(p), -(p * p.log()).sum(-1))


def test_equal_weights_count_their_keys():
    for count in (1, 2, 50):
        p = torch.zeros(60, dtype=torch.float64)
        p[:count] = 1 / count
        assert entropy(p).item() == pytest.approx(math.log(count))


def test_a_row_that_abstains_in_part_has_the_entropy_of_what_it_gives():
    p = random_rows()
    torch.testing.assert_close(entropy(0.3 * p), entropy(p))
    torch.testing.assert_close(entropy(1e-30 * p.float()), entropy(p).float())


def test_a_row_without_weight_has_entropy_0():
    assert entropy(torch.zeros(3, 4)).tolist() == [0, 0, 0]


def test_half_precision_is_measured_in_float32_and_left_as_it_is():
    p = random_rows().bfloat16()
    kept = p.clone()
    assert torch.equal(entropy(p), entropy(p.float()))
    assert torch.equal(p, kept)


def test_a_sink_draws_its_mean_weight_over_the_queries_that_see_it():
    p = random_rows()
    visible = torch.ones(5, 7, dtype=torch.bool).tril()
    p = p * visible
    torch.testing.assert_close(sink_importance(p, visible), p[..., 0].mean(-1))
    torch.testing.assert_close(sink_importance(p, visible, key=3), p[:, 3:, 3].mean(-1))
    assert sink_importance(p, visible, key=6).isnan().all()  # no query sees it


def test_a_mask_by_head_is_counted_by_head():
    p = torch.ones(2, 3, 1)
    visible = torch.tensor([[True, True, True], [True, False, False]])[..., None]
    assert sink_importance(p * visible, visible).tolist() == [1, 1]
