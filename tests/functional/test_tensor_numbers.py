"""Numbers of activations as tensors: every form in every public function, or one sentence."""

import math

import pytest
import torch
import torch.nn.functional as F

import wideneck as wn
import wideneck.functional as fn
from wideneck import config as c
from wideneck.errors import WideneckError

N, D, V = 5, 3, 7
NUMBERS = {
    ("scaled_softmax", "scale"): 1.3,
    ("sigsoftmax", "shift"): -0.4,
    ("sigmoid", "shift"): -0.4,
    ("gss", "bend"): 0.6,
    ("gss", "slope"): 1.7,
}


def score(name, z, **kw):
    """f(z) of one logit, by the formula of the config."""
    w = z - kw.get("bend", 0.0) + kw.get("shift", 0.0)
    log_sigmoid = -math.log1p(math.exp(-w))
    return {
        "scaled_softmax": lambda: kw["scale"] * z,
        "sigsoftmax": lambda: w + log_sigmoid,
        "sigmoid": lambda: log_sigmoid,
        "gss": lambda: w + (kw.get("slope", 2.0) - 1) * log_sigmoid,
    }[name]()


def slow_log_prob(name, logits, field, value):
    """A loop over rows and tokens; a shared constant of f cancels."""
    value = value.expand(logits.shape)
    result = torch.zeros_like(logits)
    for i, row in enumerate(logits.tolist()):
        f = [score(name, z, **{field: float(value[i, j])}) for j, z in enumerate(row)]
        total = math.log(sum(math.exp(x) for x in f))
        result[i] = torch.tensor([x - total for x in f], dtype=torch.float64)
    return result


def example():
    generator = torch.Generator().manual_seed(0)
    make = {"generator": generator, "dtype": torch.float64}
    hidden, weight = torch.randn(N, D, **make), torch.randn(V, D, **make)
    return hidden, weight, torch.randn(V, **make), torch.tensor([0, 6, -100, 3, 3])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (N, 1), (V,), (N, V)])
@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_log_prob_takes_what_broadcasts_to_the_logits(name, field, shape):
    hidden, weight, bias, _ = example()
    logits = F.linear(hidden, weight, bias)
    size = math.prod(shape)
    value = (torch.linspace(0.8, 1.2, size, dtype=torch.float64) * NUMBERS[name, field]).view(shape)
    config = c.activation_config(name, **{field: value})
    slow = slow_log_prob(name, logits, field, value)
    assert (fn.log_prob(logits, config) - slow).abs().max() < 1e-12
    leaf = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(fn.log_score(leaf, config).sum(), leaf)
    assert (fn.slope(logits, config) - slope).abs().max() < 1e-12
    if size == 1:
        number = c.activation_config(name, **{field: float(value)})
        for function in (fn.log_prob, fn.log_score, fn.slope):
            assert (function(logits, config) - function(logits, number)).abs().max() < 1e-12
        half = c.activation_config(name, **{field: value.float()})
        assert fn.log_prob(logits.float(), config).dtype == torch.float32
        assert fn.log_prob(logits, half).dtype == torch.float64


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_the_loss_takes_one_number_in_any_shape_with_its_gradient(name, field, shape, reduction):
    hidden, weight, bias, target = example()
    number = NUMBERS[name, field]
    value = torch.full(shape, number, dtype=torch.float32, requires_grad=True)

    def loss(config):
        found = fn.linear_cross_entropy(
            hidden, weight, target, linear_bias=bias, activation=config, reduction=reduction
        )
        return (found * torch.arange(1, 6)).sum() if reduction == "none" else found

    found = loss(c.activation_config(name, **{field: value}))
    plain = loss(c.activation_config(name, **{field: float(value.detach())}))
    torch.testing.assert_close(found, plain)
    (gradient,) = torch.autograd.grad(found, value)
    assert gradient.shape == shape
    step = 1e-5
    up, down = (
        loss(c.activation_config(name, **{field: float(value.detach()) + s})) for s in (step, -step)
    )
    torch.testing.assert_close(
        gradient.double().sum(), (up - down) / (2 * step), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_other_shapes_and_values_are_said_in_one_sentence(name, field):
    hidden, weight, bias, target = example()
    logits = F.linear(hidden, weight, bias)

    def both(value, sentence, *, loss_only=False):
        config = c.activation_config(name, **{field: value})
        with pytest.raises(WideneckError, match=sentence):
            fn.linear_cross_entropy(hidden, weight, target, activation=config)
        for function in () if loss_only else (fn.log_prob, fn.log_score, fn.slope):
            with pytest.raises(WideneckError, match=sentence):
                function(logits, config)

    both(torch.ones(3), f"needs one number for {field}")
    both(torch.ones(1, N, V), f"needs one number for {field}")
    both(torch.ones(V), f"with the fused loss needs one number for {field}", loss_only=True)
    both(torch.tensor(math.nan), f"finite number.* for {field}, got nan")
    both(torch.tensor(math.inf), f"finite number.* for {field}, got inf")
    both(torch.tensor(1j), f"real numbers for {field}")
    if field in ("scale", "slope"):
        both(torch.tensor(-0.5), f"finite number > 0 for {field}, got -0.5")


def test_z_loss_is_a_constant():
    hidden, weight, _, target = example()

    def loss(z_loss):
        return wn.linear_cross_entropy(hidden, weight, target, z_loss=z_loss)

    assert torch.equal(loss(torch.tensor(0.25)), loss(0.25))
    with pytest.raises(WideneckError, match="z_loss is a constant of the loss"):
        loss(torch.tensor(0.25, requires_grad=True))
    for wrong in (torch.ones(2), "0.1", None, True):
        with pytest.raises(WideneckError, match="z_loss needs a number"):
            loss(wrong)
