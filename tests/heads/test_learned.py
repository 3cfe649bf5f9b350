"""What activations learn: where it starts, and that it arrives."""

import pytest
import torch

from wideneck import functional, heads

STARTS = {
    "scaled_softmax": {"scale": 1.5},
    "sigsoftmax": {"shift": -2.0, "learned": True},
    "sigmoid": {"shift": 0.5, "learned": True},
    "gss": {"bend": -1.5, "slope": 2.5, "learned": True},
}


@pytest.mark.parametrize("name", STARTS)
def test_a_learned_number_starts_at_the_config_s(name):
    head = heads.build(name, hidden_size=3, vocab_size=7, **STARTS[name])
    numbers = {k: v for k, v in STARTS[name].items() if k != "learned"}
    assert {k: v.item() for k, v in head.activation.named_parameters()} == numbers
    hidden = 3 * torch.randn(5, 3)
    fixed = head.config.__class__(**numbers, learned=False)
    want = functional.log_prob(hidden @ head.weight.T, fixed)
    torch.testing.assert_close(head(hidden), want)


@pytest.mark.parametrize("name", STARTS)
def test_a_number_that_is_not_learned_is_no_parameter(name):
    head = heads.build(name, hidden_size=3, vocab_size=7, **STARTS[name] | {"learned": False})
    assert [n for n, _ in head.named_parameters()] == ["weight"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_plif_starts_as_the_softmax_in_every_dtype(dtype):
    torch.manual_seed(0)
    head = heads.build("plif", hidden_size=8, vocab_size=50).to(dtype)
    hidden = 5 * torch.randn(20, 8, dtype=dtype)
    want = functional.log_prob(hidden @ head.weight.T)
    # ln(e - 1), rounded to bfloat16, makes the slopes 1.001.
    tolerance = 2e-3 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(head(hidden), want, atol=tolerance, rtol=tolerance)


def test_a_plif_stays_increasing_whatever_it_learns():
    head = heads.build("plif", hidden_size=1, vocab_size=200, num_knots=30, reach=4.0)
    with torch.no_grad():
        head.activation.v.normal_(0, 5)
        head.weight.copy_(torch.linspace(-8, 8, 200)[:, None])
    assert (head(torch.ones(1)).diff() >= 0).all()


def test_matrices_take_the_dtype_asked_for_and_learned_numbers_stay_float32():
    head = heads.build(
        "gss", hidden_size=3, vocab_size=7, learned=True, bias=True, dtype=torch.bfloat16
    )
    dtypes = {name: parameter.dtype for name, parameter in head.named_parameters()}
    assert dtypes == {
        "weight": torch.bfloat16,
        "bias": torch.bfloat16,
        "activation.bend": torch.float32,
        "activation.slope": torch.float32,
    }


@pytest.mark.parametrize(("name", "field"), [("scaled_softmax", "scale"), ("gss", "slope")])
def test_a_factor_that_crosses_0_counts_by_its_size(name, field):
    """So that f does not fall; its gradient turns round with it."""
    head = heads.build(name, hidden_size=3, vocab_size=7, **STARTS[name])
    hidden, number = torch.randn(5, 3), getattr(head.activation, field)
    (before,) = torch.autograd.grad(head.nll(hidden, torch.arange(5), reduction="sum"), number)
    want = head(hidden)
    with torch.no_grad():
        number.neg_()
    torch.testing.assert_close(head(hidden), want)
    (after,) = torch.autograd.grad(head.nll(hidden, torch.arange(5), reduction="sum"), number)
    torch.testing.assert_close(after, -before)
    assert before.abs() > 1e-3


def test_a_plif_bends_at_its_knots_with_the_slopes_that_it_learns():
    """By hand: knots at -3, -1, 1 and 3, and f of a score between them."""
    head = heads.build("plif", hidden_size=1, vocab_size=8, num_knots=4, reach=3.0).double()
    v = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    scores = torch.tensor([-3.0, -2.5, -1.0, -0.2, 0.9, 1.0, 2.0, 3.0], dtype=torch.float64)
    with torch.no_grad():
        head.activation.v.copy_(v)
        head.weight.copy_(scores[:, None])
    slopes = torch.log1p(v.exp()).tolist()
    f = []
    for x in scores.tolist():
        part = [min(max(x - start, 0.0), 2.0) for start in (-3.0, -1.0, 1.0)]
        f.append(-3.0 + sum(s * p for s, p in zip(slopes, part, strict=True)))
    f = torch.tensor(f, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    torch.testing.assert_close(head(one)[0], f.log_softmax(0))
    _, log_normalizer = head.nll_and_log_normalizer(one, torch.tensor([0]))
    torch.testing.assert_close(log_normalizer[0], f.logsumexp(0))
