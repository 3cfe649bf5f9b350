"""What every normalizer promises, against loops, `entmax`, and its own derivatives."""

import math
from decimal import Decimal, getcontext

import entmax as peer
import pytest
import torch
from slow_rows import slow_weights
from torch.autograd import gradcheck, gradgradcheck

from wideneck.attention import names, normalize
from wideneck.attention.config import NORMALIZERS
from wideneck.attention.entmax import _remainder
from wideneck.errors import WideneckError

PARAMETERS = {
    "temperature": {"temperature": 0.7},
    "sink": {"logit": 0.4},
    "ssmax": {"scale": 0.43, "bias": 0.2},
    "topk": {"k": 3},
    "entmax": {"alpha": 1.3},
    "asentmax": {"alpha": 1.5, "delta": 1.0, "beta": 0.5, "gamma": 0.6},
}
NAMES = names()
SCALES = (0.1, 1.0, 10.0)


def rows(num_rows=12, num_keys=9, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    scores = scale * torch.randn(num_rows, num_keys, generator=generator, dtype=torch.float64)
    mask = torch.rand(num_rows, num_keys, generator=generator) > 0.4
    mask[0], mask[1] = False, True  # one row sees nothing, one everything
    return scores.to(dtype), mask


def weights(name, scores, mask=None, **more):
    return normalize(scores, name, mask, **PARAMETERS.get(name, {}), **more)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_definition(name, scale):
    scores, mask = rows(scale=scale)
    slow = slow_weights(name, scores, mask, **PARAMETERS.get(name, {}))
    assert (weights(name, scores, mask) - slow).abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_what_a_normalizer_says_of_its_rows_is_so(name):
    scores, mask = rows(200, 40, scale=3.0)
    scores[100:] -= 8  # some rows without a good key
    promises, p = NORMALIZERS[name], weights(name, scores, mask)
    seen = mask.any(1)
    assert (p >= 0).all()
    assert (p[~mask] == 0).all()
    if promises.sums_to_one:
        assert (p[seen].sum(1) - 1).abs().max() < 1e-12
    assert promises.may_be_sparse == bool((p[mask] == 0).any())
    assert promises.may_abstain == bool((p[seen].sum(1) < 1 - 1e-6).any())


@pytest.mark.parametrize("name", NAMES)
def test_a_row_that_sees_nothing_gives_zeros_and_zero_gradients(name):
    scores, _ = rows()
    for hidden in (torch.zeros(9, dtype=torch.bool), None):
        leaf = (scores if hidden is not None else torch.full_like(scores, -math.inf)).clone()
        leaf.requires_grad_()
        p = weights(name, leaf, hidden)
        (p * torch.arange(9)).sum().backward()
        assert (p == 0).all()
        assert (leaf.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_score_of_minus_infinity_hides_its_key_as_the_mask_does(name):
    scores, mask = rows()
    assert torch.equal(
        weights(name, scores, mask), weights(name, scores.masked_fill(~mask, -math.inf))
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_a_hidden_key_holds_changes_no_bit(name):
    scores, mask = rows(dtype=torch.float32)
    other = torch.where(mask, scores, torch.finfo(torch.float32).max)
    assert torch.equal(weights(name, scores, mask), weights(name, other, mask))


@pytest.mark.parametrize("name", NAMES)
def test_what_another_row_holds_changes_no_bit(name):
    scores, mask = rows(300, 40, dtype=torch.float32)
    other, other_mask = scores.clone(), mask.clone()
    other[150:] *= 30
    other_mask[150:] = True
    assert torch.equal(weights(name, scores, mask)[:150], weights(name, other, other_mask)[:150])


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_rows_sum_to_one_within_their_rounding(name):
    scores, mask = rows(500, 64, scale=3.0, dtype=torch.bfloat16)
    p = weights(name, scores, mask)
    assert p.dtype == torch.bfloat16
    exact = weights(name, scores.double(), mask)
    assert (p.double() - exact).abs().max() <= 2**-8  # half a unit of the largest weight, and more
    if NORMALIZERS[name].sums_to_one:
        assert (p.double().sum(1)[mask.any(1)] - 1).abs().max() < 4e-3


# Beta of adaptivetemperature is a constant to them: test_foils.py.
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "adaptivetemperature"])
def test_first_and_second_derivatives_are_exact(name, masked):
    scores, mask = rows(4, 6)
    scores.requires_grad_()

    def function(x):
        return weights(name, x, mask if masked else None)

    assert gradcheck(function, (scores,), check_batched_grad=True)
    assert gradgradcheck(function, (scores,))
    assert gradcheck(function, (scores,), check_forward_ad=True)


@pytest.mark.parametrize(
    ("name", "parameter", "values"),
    [
        ("temperature", "temperature", [0.5, 1.0, 2.0, 3.0]),
        ("sink", "logit", [-1.0, 0.0, 1.0, 2.0]),
        ("ssmax", "scale", [0.1, 0.43, 1.0, 2.0]),
        ("ssmax", "bias", [0.1, 0.43, 1.0, 2.0]),
        ("entmax", "alpha", [1.001, 1.5, 1.9, 2.6]),
        ("asentmax", "beta", [0.1, 0.43, 1.0, 2.0]),
        ("asentmax", "gamma", [-1.0, 0.0, 1.0, 2.0]),
        ("sigmoid", "bias", [-1.0, 0.0, 1.0, 2.0]),
    ],
)
def test_parameters_of_a_row_have_exact_derivatives(name, parameter, values):
    scores, mask = rows(4, 6)
    value = torch.tensor(values, dtype=torch.float64)[:, None].requires_grad_()
    given = {k: v for k, v in PARAMETERS.get(name, {}).items() if k != parameter}

    def function(x, v):
        return normalize(x, name, mask, **given, **{parameter: v})

    inputs = (scores.requires_grad_(), value)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_entmax_at_alpha_1_is_the_softmax_and_its_slope_in_alpha_the_limit():
    scores, mask = rows(6, 8)
    softmax = normalize(scores, "softmax", mask)
    assert torch.equal(normalize(scores, "entmax", mask, alpha=1), softmax)
    alpha = torch.ones(6, 1, dtype=torch.float64)
    assert (normalize(scores, "entmax", mask, alpha=alpha) - softmax).abs().max() < 1e-12
    _, slope = torch.func.jvp(
        lambda a: normalize(scores, "entmax", mask, alpha=a), (alpha,), (torch.ones_like(alpha),)
    )
    log = torch.where(softmax > 0, softmax, 1).log()
    limit = softmax * ((softmax * log**2).sum(1, keepdim=True) - log**2) / 2
    assert (slope - limit).abs().max() < 1e-9


def test_an_alpha_per_head_gives_each_head_its_own_entmax():
    scores = torch.randn(2, 3, 4, 7)
    alpha = torch.tensor([1.0, 1.5, 3.0]).view(3, 1, 1)
    together = normalize(scores, "entmax", alpha=alpha)
    for head, value in enumerate((1.0, 1.5, 3.0)):
        alone = normalize(scores[:, head], "entmax", alpha=value)
        assert (together[:, head] - alone).abs().max() < 1e-6


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("num_keys", [1, 2, 64, 1000])
@pytest.mark.parametrize(
    ("name", "function"), [("sparsemax", peer.sparsemax), ("entmax15", peer.entmax15)]
)
def test_values_and_gradients_are_no_further_from_float64_than_those_of_the_entmax_package(
    name, function, num_keys, scale
):
    torch.manual_seed(0)
    scores, upstream = scale * torch.randn(50, num_keys), torch.randn(50, num_keys)

    def run(f, dtype):
        leaf = scores.to(dtype).requires_grad_()
        p = f(leaf)
        (p * upstream).sum().backward()
        return p.detach().double(), leaf.grad.double()

    exact = run(lambda x: function(x, -1), torch.float64)
    ours64 = run(lambda x: normalize(x, name), torch.float64)
    ours = run(lambda x: normalize(x, name), torch.float32)
    theirs = run(lambda x: function(x, -1), torch.float32)
    for right, twin, mine, peers in zip(exact, ours64, ours, theirs, strict=True):
        assert (twin - right).abs().max() < 1e-9
        rounding = torch.finfo(torch.float32).eps * max(1.0, scale)
        assert (mine - right).abs().max() <= 2 * (peers - right).abs().max() + rounding


@pytest.mark.parametrize("alpha", [1.1, 1.5, 1.9, 2.0, 2.5])
def test_entmax_and_its_gradients_are_those_of_entmax_bisect(alpha):
    torch.manual_seed(0)
    scores = torch.randn(20, 50, dtype=torch.float64, requires_grad=True)
    a = torch.full((20, 1), alpha, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(20, 50, dtype=torch.float64)
    results = []
    for function in (
        lambda: normalize(scores, "entmax", alpha=a),
        lambda: peer.entmax_bisect(scores, a, -1, n_iter=100),
    ):
        p = function()
        results.append((p, *torch.autograd.grad((p * upstream).sum(), (scores, a))))
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).abs().max() < 1e-7


ALPHAS = (1.0001, 1.04, 1.06, 1.3, 1.5, 1.79, 1.81, 1.95, 2.0, 2.01, 2.5)


@pytest.mark.parametrize("together", [ALPHAS[:2], ALPHAS[2:6], ALPHAS[2:9], ALPHAS, ALPHAS[-2:]])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_entmax_of_every_alpha_has_the_values_and_the_support_of_its_definition(
    together, dtype, rounding
):
    """Keys outside get exactly 0, by whichever formula an alpha, or alphas together, are found."""
    scores, mask = rows(10, 30, scale=3.0, dtype=dtype)
    slow = torch.stack([slow_weights("entmax", scores, mask, alpha=alpha) for alpha in together])
    numbers = torch.tensor(together, dtype=dtype)[:, None, None]
    at_once = normalize(scores.expand(slow.shape), "entmax", mask, alpha=numbers)
    alone = [normalize(scores, "entmax", mask, alpha=alpha) for alpha in together]
    for found in (at_once, torch.stack(alone)):
        assert (found.double() - slow).abs().max() < rounding
        assert not found[slow == 0].any()
        assert (found[slow > rounding] > 0).all()


@pytest.mark.parametrize("x", [0.0, 1e-9, 0.03, 0.0499, 0.0501, 0.2, 0.49, 1.0, 3.0, 30.0])
def test_what_remains_of_an_exponential_is_exact_on_both_sides_of_its_series(x):
    """(exp(-x) - 1 + x) / x^2 with 60 digits."""
    getcontext().prec = 60
    for each in (x, -x):
        exact = Decimal(each)
        want = 0.5 if x == 0 else float(((-exact).exp() - 1 + exact) / exact**2)
        found = _remainder(torch.tensor([each], dtype=torch.float64)).item()
        assert found == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("dim", [0, 1, -1, -2, -3])
@pytest.mark.parametrize("name", NAMES)
def test_any_dimension_can_hold_the_keys(name, dim):
    scores = torch.randn(4, 5, 6)
    mask = torch.rand(4, 5, 6) > 0.3
    expected = weights(name, scores.movedim(dim, -1), mask.movedim(dim, -1)).movedim(-1, dim)
    assert torch.equal(weights(name, scores, mask, dim=dim), expected)


@pytest.mark.parametrize("name", NAMES)
def test_transforms_of_functions_see_through(name):
    scores, mask = rows(5, 7, dtype=torch.float64)
    upstream = torch.linspace(-1, 1, 7, dtype=torch.float64)

    def loss(row, seen):
        return weights(name, row, seen) @ upstream

    leaf = scores.clone().requires_grad_()
    (weights(name, leaf, mask) @ upstream).sum().backward()
    gradients = torch.func.vmap(torch.func.grad(loss))(scores, mask)
    assert (gradients - leaf.grad).abs().max() < 1e-12
    jacobian = torch.func.vmap(torch.func.jacrev(lambda r, s: weights(name, r, s)))(scores, mask)
    forward = torch.func.vmap(torch.func.jacfwd(lambda r, s: weights(name, r, s)))(scores, mask)
    assert (jacobian - forward).abs().max() < 1e-12
    assert ((upstream @ jacobian) - leaf.grad).abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_graph_has_no_break_and_the_same_gradients(name):
    scores, mask = rows(5, 7, dtype=torch.float32)
    torch.compiler.reset()  # or the cases before count as recompilations
    compiled = torch.compile(
        lambda x, m: weights(name, x, m), fullgraph=True, backend="aot_eager", dynamic=False
    )
    results = []
    for function in (compiled, lambda x, m: weights(name, x, m)):
        leaf = scores.clone().requires_grad_()
        p = function(leaf, mask)
        (p * torch.arange(7)).sum().backward()
        results.append((p.detach(), leaf.grad))
    for mine, eager in zip(*results, strict=True):
        assert (mine - eager).abs().max() < 1e-6


def test_scores_of_one_key_and_no_rows_are_fine():
    for name in NAMES:
        assert weights(name, torch.zeros(3, 1)).shape == (3, 1)
        assert weights(name, torch.zeros(0, 5)).shape == (0, 5)


EXTREME = {
    "sigmoid": ([1, 0, 1 / 4], [0, 1, 1 / 4]),
    "relu": ([1e4 / 3, 0, 0], [0, 1e4 / 3, 0]),
    "stickbreaking": ([1 / 2, 0, 1 / 2], [0, 1 / 2, 1 / 2]),
}
"""Of the scores 1e4, -1e4, 0 and of -1e4, 1e4, 0, by hand; the others give the largest all."""


@pytest.mark.parametrize("name", NAMES)
def test_extreme_scores_give_the_limits_of_the_formulas(name):
    scores = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    want = torch.tensor(EXTREME.get(name, ([1, 0, 0], [0, 1, 0])), dtype=torch.float32)
    torch.testing.assert_close(weights(name, scores), want)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalizer": "spaxsemax"}, "Did you mean 'sparsemax'?"),
        ({"normalizer": "entmax", "alpha": 0.9}, "number >= 1 for alpha, got 0.9"),
        ({"normalizer": "ssmax", "sclae": 1.0}, "Did you mean 'scale'?"),
        ({"mask": torch.zeros(3)}, "mask must be boolean"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, r"(4,) does not broadcast"),
        ({"dim": 2}, "dim = 2 is no dimension"),
        ({"scores": torch.tensor([[0.0, math.nan, math.inf]])}, "2 visible ones are NaN or +inf"),
        ({"scores": torch.tensor([1, 2])}, "floating point"),
    ],
)
def test_a_mistake_is_said_in_one_sentence(arguments, message):
    with pytest.raises(WideneckError) as caught:
        normalize(**{"scores": torch.zeros(2, 3), **arguments})
    assert message in str(caught.value)


def test_a_nan_is_never_taken_for_a_hidden_key():
    scores = torch.tensor([[0.0, math.nan, 1.0]])
    for name in NAMES:
        assert torch.func.vmap(lambda row, n=name: weights(n, row))(scores).isnan().any()


def test_a_hidden_nan_is_not_looked_at():
    scores = torch.tensor([[0.0, math.nan, 1.0]])
    p = normalize(scores, "softmax", torch.tensor([[True, False, True]]))
    torch.testing.assert_close(p, torch.tensor([[1, 0, math.e]]) / (1 + math.e))
