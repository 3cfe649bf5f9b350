"""Spectra against a plain SVD in float64."""

import math

import pytest
import torch
from scipy.stats import chi2, kstest, norm

from wideneck.audits.geometry import measure_geometry
from wideneck.audits.spectrum import gaussian_gram

EPS = torch.finfo(torch.float32).eps


def head(num_rows=500, d=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -2, d)
    return torch.randn(num_rows, d, generator=generator) * scale


def of(weight, rounding=EPS):
    return measure_geometry(weight, rounding).spectrum.raw


def test_singular_values_are_those_of_the_svd():
    weight = head()
    expected = torch.linalg.svdvals(weight.double())
    torch.testing.assert_close(torch.tensor(of(weight).singular_values).double(), expected)


def test_both_entropies_follow_their_formulas():
    s = torch.linalg.svdvals(head().double())
    for name, weights in (("kl_sigma2", s**2), ("kl_sigma", s)):
        p = weights / weights.sum()
        kl = math.log(len(s)) + (p * p.log()).sum().item()
        assert getattr(of(head()), name) == pytest.approx(kl, rel=1e-9)
        assert getattr(of(head()), f"{name}_share") == pytest.approx(kl / math.log(len(s)))


def test_ranks_follow_their_formulas():
    s = torch.linalg.svdvals(head().double())
    found = of(head())
    assert found.stable_rank == pytest.approx((s.square().sum() / s[0] ** 2).item())
    assert found.participation_ratio == pytest.approx(
        (s.square().sum() ** 2 / s.pow(4).sum()).item()
    )
    assert found.w_error[0] == pytest.approx(1)
    assert found.w_error[-1] == 0
    assert found.w_error[10] == pytest.approx((s[10:].norm() / s.norm()).item())


@pytest.mark.parametrize("rank", [1, 7, 23])
def test_numerical_rank_sees_a_low_rank_through_rounding(rank):
    generator = torch.Generator().manual_seed(rank)
    low = torch.randn(500, rank, generator=generator) @ torch.randn(rank, 24, generator=generator)
    assert of(low).numerical_rank == rank
    for dtype in (torch.float16, torch.bfloat16):
        assert of(low.to(dtype), torch.finfo(dtype).eps).numerical_rank == rank


def test_one_row_added_to_all_rows_moves_the_raw_spectrum_and_not_the_centred_one():
    weight = head().double()
    shifted = weight + 3 * torch.randn(24, generator=torch.Generator().manual_seed(1)).double()
    before, after = measure_geometry(weight, EPS), measure_geometry(shifted, EPS)
    assert after.spectrum.raw.kl_sigma2 > before.spectrum.raw.kl_sigma2 + 0.2
    assert after.spectrum.centred.kl_sigma2 == pytest.approx(
        before.spectrum.centred.kl_sigma2, rel=1e-9
    )
    assert after.mean_row_share > 0.99
    assert before.mean_row_share < 0.1


def test_a_huge_mean_row_does_not_cancel_the_centred_spectrum():
    weight = head().double()
    plain = measure_geometry(weight, EPS).spectrum.centred
    shifted = measure_geometry(weight + 1e6, EPS).spectrum.centred
    assert shifted.kl_sigma2 == pytest.approx(plain.kl_sigma2, rel=1e-6)


def test_the_gaussian_null_has_the_law_of_a_gaussian_matrix():
    """Laws of a Wishart matrix that its decomposition does not name (Muirhead 1982, chapter 3)."""
    V, d = 60, 5
    drawn = torch.stack([gaussian_gram(V, d, seed) for seed in range(2000)])
    diagonals = drawn.diagonal(dim1=1, dim2=2)
    of_inverse = drawn.inverse().diagonal(dim1=1, dim2=2)
    for i in range(d):
        assert kstest(diagonals[:, i], chi2(V).cdf).pvalue > 1e-3
        assert kstest(1 / of_inverse[:, i], chi2(V - d + 1).cdf).pvalue > 1e-3
        for j in range(i):
            scores = drawn[:, i, j] / diagonals[:, j].sqrt()
            assert kstest(scores, norm.cdf).pvalue > 1e-3
    assert kstest(diagonals.sum(1), chi2(V * d).cdf).pvalue > 1e-3


def test_the_null_of_fewer_rows_than_columns_has_the_rank_of_its_rows():
    assert torch.linalg.matrix_rank(gaussian_gram(3, 8, 0)) == 3


def test_a_weighted_spectrum_is_that_of_the_weighted_matrix():
    weight = head().double()
    states = torch.randn(200, 24, generator=torch.Generator().manual_seed(2)).double()
    moment = states.T @ states / 200
    found = measure_geometry(weight, EPS, second_moment=moment).spectrum.data_weighted
    values, vectors = torch.linalg.eigh(moment)
    root = vectors @ values.sqrt().diag() @ vectors.T
    expected = torch.linalg.svdvals((weight - weight.mean(0)) @ root)
    torch.testing.assert_close(torch.tensor(found.singular_values).double(), expected)


def test_the_data_weighted_spectrum_does_not_depend_on_the_basis_of_the_hidden_space():
    weight, basis = head().double(), torch.randn(24, 24).double()
    states = torch.randn(200, 24).double()
    found = [
        measure_geometry(w, EPS, second_moment=h.T @ h / 200).spectrum.data_weighted.kl_sigma2
        for w, h in ((weight, states), (weight @ torch.linalg.inv(basis), states @ basis.T))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_rows_that_are_selected_are_measured_like_a_matrix_of_their_own():
    weight = head()
    rows = torch.arange(0, 500, 3)
    assert measure_geometry(weight, EPS, rows=rows) == measure_geometry(weight[rows], EPS)


def test_cosines_are_means_over_all_pairs():
    weight = head(40)
    unit = torch.nn.functional.normalize(weight.double(), dim=1)
    cosines = (unit @ unit.T)[~torch.eye(40, dtype=bool)]
    found = measure_geometry(weight, EPS).cosines
    assert found.anisotropy == pytest.approx(cosines.mean().item())
    assert found.superposition == pytest.approx(cosines.square().mean().item())


def test_a_zero_row_has_no_cosine():
    weight = torch.cat([head(40), torch.zeros(3, 24)])
    found = measure_geometry(weight, EPS)
    assert found.row_norms.num_zero == 3
    expected = measure_geometry(weight[:40], EPS).cosines.anisotropy
    assert found.cosines.anisotropy == pytest.approx(expected)
