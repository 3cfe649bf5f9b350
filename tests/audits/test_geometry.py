"""Norms, cosines and tolerances of the rows of a head, each against its definition in a loop."""

import math

import pytest
import torch

from wideneck.audits.clock import Clock
from wideneck.audits.geometry import measure_geometry
from wideneck.audits.head import audit_head
from wideneck.audits.rows import special_rows
from wideneck.audits.spectrum import gaussian_gram
from wideneck.models import HeadWeights

EPS = torch.finfo(torch.float32).eps


def head(num_rows=60, d=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(num_rows, d, generator=generator, dtype=torch.float64)
    return weight * torch.logspace(0, -1, d) + torch.linspace(-1, 2, d)


def test_quantiles_of_the_row_norms_are_the_rows_that_stand_there():
    """101 rows of lengths 1 to 101, in any order: the quantile q is the length 1 + 100 q."""
    direction = torch.nn.functional.normalize(head(101), dim=1)
    order = torch.randperm(101, generator=torch.Generator().manual_seed(0))
    norms = measure_geometry(direction * (1.0 + order)[:, None], EPS).row_norms
    found = (norms.minimum, norms.p05, norms.median, norms.p95, norms.maximum)
    assert found == pytest.approx((1, 6, 51, 96, 101))
    assert norms.num_zero == 0


def test_the_mean_row_s_share_is_what_a_rank_one_head_is_made_of():
    weight = head()
    mean = torch.stack([sum(column) / len(weight) for column in weight.T.unbind()])
    top = torch.linalg.svdvals(weight)[0].item()
    found = measure_geometry(weight, EPS)
    assert found.mean_row_share == pytest.approx(60 * (mean @ mean).item() / top**2)
    same = torch.ones(60, 7) + 1e-6 * torch.eye(60, 7)
    assert measure_geometry(same, EPS).mean_row_share == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rounding", [0.0, EPS, 2.0**-8])
def test_what_does_not_count_as_rank_follows_its_formula(rounding):
    weight = head()
    found = measure_geometry(weight, rounding, second_moment=torch.eye(7).double())
    rows = max(math.hypot(*row.tolist()) for row in weight)
    columns = max(math.hypot(*column.tolist()) for column in weight.T)
    noise = rounding / math.sqrt(26) * (rows + columns)

    def resolved(spectrum):
        return spectrum.singular_values[0] * math.sqrt(7 * 2.0**-52)

    raw, centred, weighted = (
        getattr(found.spectrum, n) for n in ("raw", "centred", "data_weighted")
    )
    assert raw.rank_tolerance == pytest.approx(max(noise, resolved(raw)))
    assert centred.rank_tolerance == pytest.approx(max(noise, resolved(centred)))
    assert weighted.rank_tolerance == pytest.approx(resolved(weighted))
    assert found.spectrum.null.rank_tolerance == pytest.approx(resolved(found.spectrum.null))
    for spectrum in (raw, centred, weighted):
        above = [s for s in spectrum.singular_values if s > spectrum.rank_tolerance]
        assert spectrum.numerical_rank == len(above)


@pytest.mark.parametrize("centred", [False, True])
def test_cosines_are_means_over_ordered_pairs_of_different_rows(centred):
    weight = head(20)
    rows = (weight - weight.mean(0) if centred else weight).tolist()
    pairs = []
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j:
                dot = sum(x * y for x, y in zip(a, b, strict=True))
                pairs.append(dot / math.hypot(*a) / math.hypot(*b))
    found = measure_geometry(weight, EPS)
    cosines = found.cosines_centred if centred else found.cosines
    assert cosines.anisotropy == pytest.approx(sum(pairs) / len(pairs))
    assert cosines.superposition == pytest.approx(sum(c * c for c in pairs) / len(pairs))
    assert cosines.superposition_null == pytest.approx(1 / 7)


def test_random_directions_have_the_superposition_of_chance():
    weight = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    cosines = measure_geometry(weight, EPS).cosines
    # A mean over pairs of N rows is off by about the deviation of one pair times sqrt(2) / N.
    unit = torch.nn.functional.normalize(weight.double(), dim=1)
    pairs = (unit @ unit.T)[~torch.eye(1000, dtype=torch.bool)]
    assert cosines.superposition == pytest.approx(pairs.square().mean().item(), rel=1e-6)
    assert cosines.superposition_null == 1 / 5
    assert abs(cosines.superposition - 1 / 5) < 3 * pairs.square().std() * 2**0.5 / 1000
    assert abs(cosines.anisotropy) < 3 * pairs.std() * 2**0.5 / 1000


def test_rows_along_the_axes_are_at_right_angles():
    weight = torch.tensor([[3.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]])
    cosines = measure_geometry(weight, EPS).cosines
    assert (cosines.anisotropy, cosines.superposition) == pytest.approx((0, 0), abs=1e-12)


def test_one_row_has_no_pair():
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    cosines = measure_geometry(weight, EPS).cosines
    assert (cosines.anisotropy, cosines.superposition) == pytest.approx((0, 0))


def test_of_one_column_the_spectrum_is_flat_and_its_share_0():
    raw = measure_geometry(torch.tensor([[3.0], [4.0]]), EPS).spectrum.raw
    assert raw.singular_values == pytest.approx([5])
    assert (raw.kl_sigma2, raw.kl_sigma2_share) == (0, 0)
    assert (raw.kl_sigma, raw.kl_sigma_share) == (0, 0)
    assert raw.effective_rank == raw.effective_rank_sigma2 == raw.stable_rank == 1


def test_both_effective_ranks_are_the_exponentials_of_their_entropies():
    weight = head()
    raw = measure_geometry(weight, EPS).spectrum.raw
    s = torch.linalg.svdvals(weight)
    for found, mass in ((raw.effective_rank, s), (raw.effective_rank_sigma2, s**2)):
        p = [x / mass.sum().item() for x in mass.tolist()]
        assert found == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)))
    flat = measure_geometry(torch.eye(7).repeat(3, 1), EPS).spectrum.raw
    assert flat.effective_rank == pytest.approx(7)
    assert flat.effective_rank_sigma2 == pytest.approx(7)
    assert flat.kl_sigma2_share == pytest.approx(0, abs=1e-12)
    line = measure_geometry(torch.arange(1.0, 8)[:, None] * torch.ones(7), EPS).spectrum.raw
    assert line.kl_sigma2_share == pytest.approx(1)
    assert line.effective_rank_sigma2 == pytest.approx(1)


def test_every_w_error_is_the_distance_from_the_best_matrix_of_that_rank():
    weight = head()
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    found = measure_geometry(weight, EPS).spectrum.raw.w_error
    assert len(found) == 8
    for rank, error in enumerate(found):
        best = (u[:, :rank] * s[:rank]) @ vh[:rank]
        assert error == pytest.approx(
            (weight - best).norm().item() / weight.norm().item(), abs=1e-7
        )


def test_the_weighted_null_is_the_null_where_the_states_are_round():
    found = measure_geometry(head(), EPS, second_moment=4 * torch.eye(7).double()).spectrum
    for weighted, plain in (
        (found.data_weighted_null, found.null),
        (found.data_weighted, found.centred),
    ):
        doubled = [2 * s for s in plain.singular_values]
        assert weighted.singular_values == pytest.approx(doubled)


def test_the_null_is_of_the_seed_and_of_as_many_rows():
    def null(seed):
        return measure_geometry(head(), EPS, seed=seed).spectrum.null.singular_values

    assert null(3) == null(3) != null(4)
    expected = torch.linalg.eigvalsh(gaussian_gram(60, 7, 3)).flip(0).sqrt()
    assert null(3) == pytest.approx(expected.tolist())


def test_undertrained_ends_at_a_tenth_of_the_median_distance_which_belongs_to_it():
    """The padding at 0, some rows near it, and nine rows that are exactly 10 away."""
    near = [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.01, 0.0), (2.0, 0.0)]
    around = [(x * i, y * j) for x, y in ((6.0, 8.0), (8.0, 6.0)) for i in (1, -1) for j in (1, -1)]
    found = special_rows(torch.tensor([*near, *around, (10.0, 0.0)]), [None, *"abcdefghijklm"])
    assert [ref.token for ref in found.undertrained] == [0, 1, 2]


@pytest.mark.parametrize("exponent", [-100, -60, 0, 60, 100])
def test_what_is_near_does_not_depend_on_the_scale(exponent):
    """The squares of float32 numbers of 2^70 are beyond float32."""
    weight = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    weight[30:] = 0.3 + 0.01 * weight[30:]
    scaled = torch.ldexp(weight, torch.tensor(exponent))
    found = special_rows(scaled, [f"t{i}" for i in range(38)])
    assert [ref.token for ref in found.undertrained] == list(range(30, 40))


@pytest.mark.parametrize(("named", "rows"), [(60, None), (59, 59), (2, 2), (1, None)])
def test_the_measures_without_special_rows_are_there_where_two_rows_are_left(named, rows):
    """Rows that the tokenizer names are left; without such rows there is nothing to leave out."""
    weights = HeadWeights(
        weight=head(),
        bias=None,
        name="lm_head.weight",
        dtype="torch.float64",
        rounding=EPS,
        tied=False,
        tying="a tensor of its own",
        sha256="0" * 64,
        tokens=[f"token{i}" for i in range(named)],
        model="a model",
    )
    found = audit_head(weights, Clock(), argmaxable=False)
    assert found.argmaxable is None
    assert (found.num_rows, found.vocab_size, found.hidden_size) == (60, 60, 7)
    without = found.without_special
    assert (None if without is None else without.num_rows) == rows
    assert len(found.rows.excluded) == 60 - named
