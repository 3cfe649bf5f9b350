"""Separability against loops over the selected keys."""

from functools import partial

import pytest
import torch

from audits.attention.attention_layers import KINDS, by_rows, layer
from audits.attention.row_definitions import closest, lower, share, upper
from wideneck.audits.attention import selection
from wideneck.audits.attention.separability import separability

SIZES = (1, 2, 5, 8, 9, 20)


def one_length(kind):
    weights, vectors, visible = layer(kind)
    return weights, torch.nn.functional.normalize(vectors, dim=-1), visible


@pytest.mark.parametrize("made", [layer, one_length])
@pytest.mark.parametrize("block", [1, 20, 2**16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_measure_follows_its_definition(kind, block, made, monkeypatch):
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", block)
    weights, vectors, visible = made(kind)
    found = separability(weights, vectors, visible, SIZES)
    for head in range(len(weights)):
        shown = visible.expand(weights.shape)[head]
        delta, radius = closest(vectors[head], shown)
        assert found.delta[head].item() == pytest.approx(delta, nan_ok=True)
        assert found.radius[head].item() == pytest.approx(radius, nan_ok=True)
        one = weights[head][None], vectors[head][None], shown[None]
        torch.testing.assert_close(
            found.share[:, [head]], by_rows(share, SIZES, *one), equal_nan=True
        )
        for name, side in (("lower", lower), ("upper", upper)):
            expected = by_rows(partial(side, radius=radius, delta=delta), SIZES, *one)
            torch.testing.assert_close(
                getattr(found, name)[:, [head]], expected, equal_nan=True, msg=name
            )


def test_one_selected_key_is_its_own_sum():
    found = separability(*layer("causal"), [1])
    assert (found.share[0, :, 1:] == 1).all()
    assert (found.lower[0, :, 1:] == 1).all()
    assert (found.upper[0, :, 1:] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_duplicate_of_equal_weight_outside_leaves_nothing_separated(dtype):
    vectors = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0), dtype=dtype)
    vectors[0, 3] = vectors[0, 0]
    weights = torch.tensor([0.3, 0.1, 0.1, 0.3, 0.1, 0.1], dtype=dtype).expand(1, 6, 6)
    found = separability(weights, vectors, torch.ones(6, 6, dtype=torch.bool), [1])
    assert found.delta.item() == 0
    assert (found.share == 0).all()
    assert (found.lower == -torch.inf).all()


def test_a_selected_key_of_weight_0_is_not_nearer_than_an_outside_one_of_weight_0():
    weights = torch.tensor([[[0.6, 0.4, 0.0, 0.0]]])
    vectors = torch.eye(4)[None]
    found = separability(weights, vectors, torch.ones(1, 4, dtype=torch.bool), [3])
    assert found.share.item() == pytest.approx(2 / 3)


def test_a_row_without_weight_separates_nothing():
    visible = torch.ones(1, 4, dtype=torch.bool)
    found = separability(torch.zeros(1, 1, 4), torch.eye(4)[None], visible, [2])
    assert found.share.item() == 0


def test_one_vector_has_no_smallest_distance():
    found = separability(torch.ones(1, 1, 1), torch.ones(1, 1, 3), torch.ones(1, 1).bool(), [1])
    assert found.delta.isnan().all()
    assert found.radius.item() == pytest.approx(3**0.5)
    assert found.share.isnan().all()


def test_vectors_of_length_0_have_numbers():
    visible = torch.ones(1, 3, dtype=torch.bool)
    found = separability(torch.full((1, 1, 3), 1 / 3), torch.zeros(1, 3, 2), visible, [1, 2])
    assert (found.share == 0).all()
    assert (found.upper == 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_float32_counts_as_float64_does(kind):
    weights, vectors, visible = layer(kind)
    narrow = separability(weights.float(), vectors.float(), visible, SIZES)
    wide = separability(weights.float().double(), vectors.float().double(), visible, SIZES)
    for name in ("share", "lower", "upper", "delta", "radius"):
        torch.testing.assert_close(
            getattr(narrow, name), getattr(wide, name).float(), equal_nan=True
        )
