import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import wideneck as wn
import wideneck.functional as fn
from functional.fused_examples import ACTIVATIONS
from wideneck import config as c
from wideneck.errors import WideneckError

DTYPES = [torch.float32, torch.bfloat16, torch.float64]
finite = st.floats(-80, 80, width=32)


def plain(kind: str) -> c.Activation:
    """The activation with detached numbers."""
    activation = ACTIVATIONS[kind]()
    return c.activation_config(
        activation,
        **{k: v.detach() for k, v in vars(activation).items() if isinstance(v, torch.Tensor)},
    )


def test_sigsoftmax_has_its_published_values():
    """z = [-3, -1, 0, 1, 3], computed by hand from e^z sigmoid(z)."""
    log_p = fn.log_prob(torch.tensor([-3.0, -1, 0, 1, 3]), "sigsoftmax")
    want = torch.tensor([-9.126889, -5.391564, -3.771449, -2.391564, -0.126889])
    torch.testing.assert_close(log_p, want)


def test_gss_at_0_2_is_sigsoftmax_and_at_slope_1_softmax():
    z = torch.randn(5, 30, dtype=torch.float64) * 10
    torch.testing.assert_close(
        fn.log_prob(z, c.GSS(bend=0.0, slope=2.0)), fn.log_prob(z, "sigsoftmax")
    )
    torch.testing.assert_close(fn.log_prob(z, c.GSS(bend=-1.5, slope=1.0)), z.log_softmax(-1))


def test_gss_is_the_published_form():
    """w = k (z - c) + c - (k - 1) softplus(z - c), equations 2 to 5 of Parthiban et al."""
    z = torch.randn(4, 20, dtype=torch.float64) * 5
    published = 2.5 * (z + 1.5) - 1.5 - 1.5 * F.softplus(z + 1.5)
    torch.testing.assert_close(
        fn.log_prob(z, c.GSS(bend=-1.5, slope=2.5)), published.log_softmax(-1)
    )


def test_sigsoftmax_is_not_shift_invariant_and_lies_between_two_softmaxes():
    z = torch.tensor([1.0, 0, -1], dtype=torch.float64)
    torch.testing.assert_close(fn.log_prob(z + 40, "sigsoftmax"), z.log_softmax(-1))
    torch.testing.assert_close(fn.log_prob(z - 40, "sigsoftmax"), (2 * z).log_softmax(-1))
    middle = fn.log_prob(z, "sigsoftmax").exp()
    want = torch.tensor([0.76841, 0.19334, 0.03826], dtype=torch.float64)
    torch.testing.assert_close(middle, want, atol=5e-6, rtol=0)


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [
        (c.Softmax(), 1, 1),
        (c.ScaledSoftmax(scale=1.5), 1.5, 1.5),
        (c.Sigsoftmax(), 2, 1),
        (c.GSS(slope=3.0), 3, 1),
        (c.GSS(slope=0.5), 0.5, 1),
        (c.Sigmoid(), 1, 0),
        (c.ReLU(), 0, 0),
        (c.SoftCap(cap=5.0), 0, 0),
    ],
)
def test_slopes_have_their_limits(activation, low, high):
    ends = torch.tensor([-1e6, 1e6], dtype=torch.float64)
    want = torch.tensor([low, high], dtype=torch.float64)
    torch.testing.assert_close(fn.slope(ends, activation), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_slope_is_the_derivative_of_the_score(kind):
    z = torch.randn(50, dtype=torch.float64, requires_grad=True)
    activation = plain(kind)
    (want,) = torch.autograd.grad(fn.log_score(z, activation).sum(), z)
    torch.testing.assert_close(fn.slope(z.detach(), activation), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_score_and_slope_are_finite_for_every_finite_logit(kind, dtype):
    limits = torch.finfo(dtype)
    z = torch.tensor(
        [limits.min, -1e4, -100, -limits.tiny, 0, limits.tiny, 100, 1e4, limits.max], dtype=dtype
    )
    score, slope = fn.log_score(z, plain(kind)), fn.slope(z, plain(kind))
    assert score.dtype == torch.promote_types(dtype, torch.float32)
    assert score.isfinite().all()
    assert slope.isfinite().all()
    assert (slope >= 0).all()


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(ACTIVATIONS)), st.lists(finite, min_size=2, max_size=20))
def test_every_activation_keeps_the_order_of_the_logits(kind, logits):
    z = torch.tensor(sorted(logits), dtype=torch.float64)
    log_p = fn.log_prob(z, plain(kind))
    assert (log_p.diff() >= -1e-12 * (1 + z[1:].abs())).all()


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(ACTIVATIONS)), st.lists(finite, min_size=1, max_size=20))
def test_probabilities_sum_to_one(kind, logits):
    log_p = fn.log_prob(torch.tensor(logits, dtype=torch.float64), plain(kind))
    assert (log_p <= 1e-15).all()
    torch.testing.assert_close(log_p.exp().sum().item(), 1.0)


def test_a_mixture_is_the_weighted_sum():
    prior = torch.rand(4, 3, dtype=torch.float64).softmax(-1)
    parts = torch.randn(4, 3, 9, dtype=torch.float64).softmax(-1)
    want = (prior.unsqueeze(-1) * parts).sum(-2).log()
    torch.testing.assert_close(fn.log_mixture(prior.log(), parts.log()), want)
    with pytest.raises(WideneckError, match=r"log_prior must have the shape .* got \(4, 2\)"):
        fn.log_mixture(prior[:, :2], parts)


def test_logits_must_be_numbers_of_a_float_type():
    with pytest.raises(WideneckError, match="floating point"):
        wn.functional.log_prob(torch.arange(4))


def test_the_whole_distribution_is_twice_differentiable():
    z = torch.randn(6, dtype=torch.float64, requires_grad=True)
    for kind in ("sigsoftmax", "gss", "softcap"):
        assert torch.autograd.gradgradcheck(lambda z, k=kind: fn.log_prob(z, plain(k)), (z,))
