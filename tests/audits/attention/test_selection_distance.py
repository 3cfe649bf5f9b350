"""Representation distances against loops over keys and, for random sets, over all sets."""

import pytest
import torch

from audits.attention.attention_layers import (
    KINDS,
    TIED,
    by_rows,
    distances_of_all_sets,
    layer,
    rows,
    seeded,
)
from audits.attention.row_definitions import MEASURES
from wideneck.audits.attention import selection
from wideneck.audits.attention.distance import selection_distances

SIZES = (1, 2, 5, 8, 9, 20)
"""Of 9 keys: up to more than there are."""


CHOICE_MATTERS = {"bound", "bound_tight"}


def measure(weights, vectors, visible, sizes=SIZES, draws=1):
    return selection_distances(weights, vectors, visible, sizes, generator=seeded(0), draws=draws)


@pytest.mark.parametrize("block", [1, 20, 2**16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_measure_follows_its_definition(kind, block, monkeypatch):
    monkeypatch.setattr(selection, "BLOCK_ELEMENTS", block)
    found = measure(*layer(kind))
    for name, definition in MEASURES.items():
        if kind not in TIED or name not in CHOICE_MATTERS:
            expected = by_rows(definition, SIZES, *layer(kind))
            torch.testing.assert_close(getattr(found, name), expected, equal_nan=True, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_no_visible_key_outside_is_nan_in_every_measure(kind):
    weights, vectors, visible = layer(kind)
    empty = torch.stack([visible.expand(weights.shape).sum(-1) <= size for size in SIZES])
    found = measure(weights, vectors, visible)
    for name in (*MEASURES, "expected_monte_carlo"):
        assert torch.equal(getattr(found, name).isnan(), empty)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(10))
def test_theorem_1_bounds_the_sum_of_distances(kind, seed):
    found = measure(*layer(kind, seed), sizes=range(1, 9))
    known = ~found.each.isnan()
    slack = 1 + 100 * torch.finfo(torch.float64).eps
    assert (found.each <= found.bound_tight * slack)[known].all()
    assert (found.bound_tight <= found.bound * slack)[known].all()
    assert (found.summed <= found.each * slack)[known].all()


def test_theorem_1_is_an_equality_for_vectors_that_are_all_alike():
    weights, vectors, visible = layer("causal")
    found = measure(weights, vectors[:, :1].expand_as(vectors).contiguous(), visible)
    torch.testing.assert_close(found.bound, found.each, equal_nan=True)


@pytest.mark.parametrize("kind", ["causal", "abstain", "partly", "masked"])
def test_the_closed_forms_enclose_the_mean_over_all_sets(kind):
    args = layer(kind)
    sizes = (1, 2, 4, 6)
    exact = by_rows(lambda a, x, n: distances_of_all_sets(a, x, n).mean(), sizes, *args)
    found = measure(*args, sizes=sizes)
    known = ~exact.isnan()
    slack = 1 + 100 * torch.finfo(torch.float64).eps
    assert (found.expected_paper <= exact * slack)[known].all()
    assert (exact <= found.expected_upper * slack)[known].all()


def test_two_keys_have_one_random_set_for_each_and_no_gap_between_the_closed_forms():
    args = layer("causal")
    found = measure(*args, sizes=[1])
    for form in (found.expected_paper, found.expected_upper):
        alpha, x = args[0][:, 1, :2], args[1][:, :2]
        distance = (alpha[:, 0, None] * x[:, 0] - alpha[:, 1, None] * x[:, 1]).norm(dim=1)
        torch.testing.assert_close(form[0, :, 1], distance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_of_keys_that_are_all_alike_is_no_distance_from_the_others(dtype):
    """Rounding would make some of the squares negative, whose root is no number."""
    vectors = torch.randn(50, 1, 16, generator=seeded(3), dtype=dtype).expand(50, 7, 16)
    weights = torch.full((50, 1, 7), 1 / 7, dtype=dtype)
    found = measure(weights, vectors.contiguous(), torch.ones(1, 7, dtype=torch.bool), sizes=[1])
    length = vectors.norm(dim=-1).max()
    for form in (found.each, found.expected_paper, found.expected_upper, found.bound_tight):
        assert form.abs().max() <= 10 * torch.finfo(dtype).eps ** 0.5 * length


def test_random_sets_are_uniform():
    args = [part[:1] for part in layer("partly")]
    sizes, draws = (1, 2, 4), 2000
    found = measure(*args, sizes=sizes, draws=draws).expected_monte_carlo
    for _, query, alpha, x in rows(*args):
        for i, size in enumerate(sizes):
            if len(alpha) > size:
                exact = distances_of_all_sets(alpha, x, size)
                error = exact.std(correction=0) / draws**0.5
                assert abs(found[i, 0, query] - exact.mean()) <= 5 * error + 1e-12


def test_a_random_set_depends_on_the_generator_alone():
    args = layer("causal")
    first, again, other = (
        selection_distances(*args, SIZES, generator=seeded(seed), draws=1).expected_monte_carlo
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.nan_to_num(), again.nan_to_num())
    assert not torch.equal(first.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("kind", KINDS)
def test_float32_gives_the_numbers_of_float64(kind):
    weights, vectors, visible = layer(kind)
    weights, vectors = weights.float(), vectors.float()
    narrow = measure(weights, vectors, visible)
    wide = measure(weights.double(), vectors.double(), visible)
    for name in MEASURES:
        if kind not in TIED or name not in CHOICE_MATTERS:
            found = getattr(narrow, name)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, getattr(wide, name).float(), equal_nan=True)


def test_half_precision_is_measured_in_float32():
    weights, vectors, visible = layer("causal")
    found = measure(weights.bfloat16(), vectors.bfloat16(), visible)
    wide = measure(weights.bfloat16().float(), vectors.bfloat16().float(), visible)
    torch.testing.assert_close(found.each, wide.each, equal_nan=True, rtol=0, atol=0)
