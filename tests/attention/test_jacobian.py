"""Closed forms of dp/dl against autograd, and the norms that nothing exceeds."""

import math

import pytest
import torch

from wideneck.attention.config import NORMALIZERS, Entmax, Temperature, normalizer_config
from wideneck.attention.normalizer import count
from wideneck.audits.attention.jacobian import spectral_norm

CASES = {
    **{name: config for name, config in NORMALIZERS.items() if name != "topk"},
    "topk": normalizer_config("topk", k=3),
    "ssmax 0.43": normalizer_config("ssmax", scale=0.43, bias=0.5),
    "temperature 0.3": Temperature(temperature=0.3),
    "entmax 1.25": Entmax(alpha=1.25),
    "entmax 1.9": Entmax(alpha=1.9),
    "asentmax 1.5": normalizer_config("asentmax", beta=0.5, gamma=0.6),
}


def many_rows(num_keys, num_rows=10_000):
    """Random rows of scales 0.1 to 10; every fourth has near ties at its top."""
    generator = torch.Generator().manual_seed(num_keys)
    size = 10 ** (2 * torch.rand(num_rows, 1, generator=generator, dtype=torch.float64) - 1)
    rows = size * torch.randn(num_rows, num_keys, generator=generator, dtype=torch.float64)
    top = rows.amax(1)
    rows[::4, 0] = top[::4] + 1e-3 * rows[::4, 1].sign()
    rows[::4, 1] = top[::4]
    return rows


def jacobians(rows, config):
    return torch.func.vmap(torch.func.jacrev(lambda row: config.weights(row, None)))(rows)


@pytest.mark.parametrize("name", CASES)
def test_no_row_of_ten_thousand_exceeds_the_documented_norm(name):
    config = CASES[name]
    for num_keys in (2, 3, 9):
        seen = torch.linalg.matrix_norm(jacobians(many_rows(num_keys), config), 2).max()
        assert seen <= config.largest_norm(num_keys) * (1 + 1e-9)


NOT_OF_THE_WEIGHTS = ("stickbreaking", "adaptivetemperature", "softpick")
"""Which do not tell dp/dl, or not in that form."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_OF_THE_WEIGHTS])
def test_the_closed_form_is_autograds_jacobian(name):
    config, rows = CASES[name], many_rows(6, 200)
    p = config.weights(rows, None)
    found = config.derivative(p, count(rows, None))
    assert found is not None
    s = found.diagonal
    matrix = torch.diag_embed(s) - found.rank_one[:, None, None] * s[:, :, None] * s[:, None]
    matrix = found.factor[:, None, None] * matrix
    assert (matrix - jacobians(rows, config)).abs().max() < 1e-9


def test_sticks_have_no_closed_form_of_that_kind():
    """Their dp/dl is triangular: a key feels itself and the newer ones."""
    config, rows = CASES["stickbreaking"], many_rows(6, 50).clamp(-3, 3)
    p = config.weights(rows, None)
    assert config.derivative(p, count(rows, None)) is None
    exact = jacobians(rows, config)
    assert not exact.tril(-1).any()
    torch.testing.assert_close(exact.diagonal(dim1=1, dim2=2), p * torch.sigmoid(-rows))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 8.0])
def test_two_equal_scores_reach_one_over_two_t(temperature):
    config = Temperature(temperature=temperature)
    norm = torch.linalg.matrix_norm(jacobians(torch.zeros(1, 2, dtype=torch.float64), config), 2)
    assert norm.item() == pytest.approx(1 / (2 * temperature), rel=1e-12)
    assert config.largest_norm(2) == pytest.approx(1 / (2 * temperature))
    # The paper's corollary 3 is half of it.
    assert norm.item() > 1 / (4 * temperature)


@pytest.mark.parametrize("name", [name for name in CASES if "entmax" in name or "max" in name])
def test_one_large_weight_above_many_small_ones_does_not_exceed_it_either(name):
    """Where an entmax passes the 2^(alpha - 2) of a tie: 0.84 at alpha 1.5."""
    config, largest = CASES[name], 0.0
    for top in torch.linspace(0.5, 3, 101, dtype=torch.float64).tolist():
        rows = torch.zeros(1, 512, dtype=torch.float64)
        rows[0, 0] = top
        p = config.weights(rows, None)
        found = config.derivative(p, count(rows, None))
        assert found is not None
        norm = spectral_norm(found.diagonal, found.rank_one) * found.factor
        largest = max(largest, norm.item())
    assert largest <= config.largest_norm(512) * (1 + 1e-9)
    if name == "entmax15":
        assert f"{largest:.2f}" == "0.84"


TIE = [50.0, 50.0, -50.0]
ATTAINED = {
    "softmax": TIE,
    "temperature 0.3": TIE,
    "softmax1": TIE,
    "sink": TIE,
    "ssmax": TIE,
    "ssmax 0.43": TIE,
    "ssmax below 0": TIE,
    "logn": TIE,
    "topk of 2": TIE,
    "sparsemax": TIE,
    "entmax 1": TIE,
    "sparsemax scaled": TIE,
    "sigmoid": [math.log(3)] * 3,  # where a half of it is passed on
    "relu": [1.0, 1.0, 1.0],
}
"""Rows of three keys at which the documented norm is not only a bound."""
MORE = {
    "ssmax below 0": normalizer_config("ssmax", scale=-1.5, bias=0.2),
    "topk of 2": normalizer_config("topk", k=2),
    "entmax 1": Entmax(alpha=1.0),
    "sparsemax scaled": normalizer_config("asentmax", alpha=2.0, delta=0.4, beta=0.5, gamma=0.7),
}


@pytest.mark.parametrize("name", ATTAINED)
def test_the_documented_norm_is_reached(name):
    config, row = {**CASES, **MORE}[name], ATTAINED[name]
    norms = [
        torch.linalg.matrix_norm(jacobians(torch.tensor([x], dtype=torch.float64), config), 2)
        for x in (row, [-x for x in row])  # a negative scale turns the row round
    ]
    assert max(norms).item() == pytest.approx(config.largest_norm(3), rel=1e-9)


@pytest.mark.parametrize("name", ["ssmax below 0", "sparsemax scaled", "temperature 0.3"])
def test_a_factor_gives_norms_of_its_size_also_below_0(name):
    config, rows = {**CASES, **MORE}[name], many_rows(5, 100)
    p = config.weights(rows, None)
    found = config.derivative(p, count(rows, None))
    assert found is not None
    assert (found.factor > 0).all()
    norms = spectral_norm(found.diagonal, found.rank_one) * found.factor
    exact = torch.linalg.matrix_norm(jacobians(rows, config), 2)
    torch.testing.assert_close(norms, exact, atol=1e-8, rtol=1e-6)


def test_below_alpha_2_the_documented_norm_is_come_near():
    """It is the least upper bound: one weight near 1 above very many of nearly 0."""
    config, n = Entmax(alpha=1.5), 20_000
    tops = torch.linspace(1.5, 2.0, 40, dtype=torch.float64)
    rows = torch.cat([tops[:, None], torch.zeros(40, n - 1, dtype=torch.float64)], 1)
    found = config.derivative(config.weights(rows, None), count(rows, None))
    assert found is not None
    norm = (spectral_norm(found.diagonal, found.rank_one) * found.factor).max()
    assert 0.94 < norm.item() < config.largest_norm(n) == 1


def test_stick_breaking_comes_near_its_bound_and_stays_below():
    """The largest norm that gradient ascent finds, for rows of 2 to 6 keys."""
    config, largest = CASES["stickbreaking"], 0.0
    for num_keys in (2, 3, 6):
        rows = many_rows(num_keys, 50).clamp(-3, 3).requires_grad_()
        optimizer = torch.optim.Adam([rows], lr=0.1)
        for _ in range(150):
            norms = torch.linalg.matrix_norm(jacobians(rows, config), 2)
            optimizer.zero_grad()
            (-norms.sum()).backward()
            optimizer.step()
        largest = max(largest, norms.max().item())
    assert f"{largest:.3f}" == "0.354"  # "seen", of its config
    assert largest < config.largest_norm(2)


def test_the_bound_of_stick_breaking_is_made_of_two_sums_that_are_reached():
    """1/e of a row, an old key behind many that each take little; 1/2 of a column, by a coin."""
    config, many = CASES["stickbreaking"], 1000
    little = torch.full((many,), 1 / many, dtype=torch.float64).logit()
    old = torch.cat([torch.tensor([40.0], dtype=torch.float64), little])
    row = jacobians(old[None], config)[0, 0].abs().sum().item()
    assert row == pytest.approx(1 / math.e, rel=1e-3)
    coin = torch.tensor([[40.0, 0.0]], dtype=torch.float64)
    column = jacobians(coin, config)[0, :, 1].abs().sum().item()
    assert column == pytest.approx(1 / 2, rel=1e-9)
    assert config.largest_norm(5) == pytest.approx(math.sqrt(row * column), rel=1e-3)
    for num_keys in (2, 6):
        sizes = jacobians(many_rows(num_keys), config).abs()
        assert sizes.sum(2).max() <= 1 / math.e
        assert sizes.sum(1).max() <= 1 / 2 + 1e-12


def test_above_alpha_2_no_norm_is_documented():
    assert Entmax(alpha=2.5).largest_norm(5) == float("inf")
