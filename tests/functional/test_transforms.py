"""`torch.func` over the fused loss: right, as of the dense float64 form, or one sentence."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import func

import wideneck as wn
from functional.fused_examples import inputs, slow
from wideneck.errors import WideneckError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def losses(mixture: bool):
    """The fused and the dense loss of (x, W, b, slope, reduction), and arguments for both."""
    given = inputs(mixture)

    def of(loss):
        def moved(x, W, b, slope, reduction="mean"):
            changed = {**given, "input": x, "linear_weight": W, "linear_bias": b}
            activation = wn.GSS(slope=slope)
            return loss(**changed, activation=activation, reduction=reduction, z_loss=0.1)

        return moved

    names = ("input", "linear_weight", "linear_bias")
    slope = torch.tensor(1.7, dtype=torch.float64)
    args = (*(given[name].detach() for name in names), slope)
    return of(wn.linear_cross_entropy), of(lambda **rest: slow(**rest)[0]), args


RIGHT = {
    "grad": lambda f, x, *rest: func.grad(f, (0, 1, 2, 3))(x, *rest),
    "grad_and_value": lambda f, x, *rest: func.grad_and_value(f)(x, *rest),
    "vjp of none": lambda f, x, *rest: func.vjp(lambda x: f(x, *rest, "none"), x)[1](
        x.flatten(1)[:, 0]
    ),
    "jacrev of none": lambda f, x, *rest: func.jacrev(f, (0, 1, 3))(x, *rest, "none"),
    "vmap": lambda f, x, *rest: func.vmap(lambda x: f(x, *rest))(torch.stack([x, x.sin()])),
    "vmap of another dimension": lambda f, x, W, *rest: func.vmap(
        lambda x, W: f(x, W, *rest, "none"), (1, 0), 1
    )(torch.stack([x, x.sin()], 1), torch.stack([W, W.cos()])),
    "gradients per sample": lambda f, x, *rest: func.vmap(
        func.grad(f, (0, 1, 3)), (0, None, None, None)
    )(torch.stack([x, x.sin()]), *rest),
    "grad of a vmap": lambda f, x, W, *rest: func.grad(
        lambda W: func.vmap(lambda x: f(x, W, *rest))(torch.stack([x, x.sin()])).sum()
    )(W),
    "vmap of autograd.grad": lambda f, x, *rest: _backward_passes(f, x, *rest),
}


def _backward_passes(f, x, *rest):
    x = x.clone().requires_grad_()
    both = []
    for reduction, up in (("none", torch.eye(7).double()), ("mean", torch.ones(2).double())):
        loss = f(x, *rest, reduction)
        back = lambda g, loss=loss: torch.autograd.grad(loss, x, g, retain_graph=True)  # noqa: E731
        both.append(func.vmap(back)(up))
    return both


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("mixture", [False, True])
def test_is_that_of_the_dense_loss(name, mixture):
    fused, dense, args = losses(mixture)
    torch.testing.assert_close(RIGHT[name](fused, *args), RIGHT[name](dense, *args))


@pytest.mark.skipif(
    not hasattr(torch.nn.functional, "linear_cross_entropy"),
    reason="before torch 2.13 its tracer fails at whatever gives way in a compiled gradient",
)
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile's, where it gives way
def test_a_compiled_gradient_is_right_where_the_tracer_gives_way():
    fused, dense, args = losses(False)
    torch._dynamo.reset()
    got = torch.compile(func.grad(fused, (0, 1)), backend="eager")(*args)
    torch.testing.assert_close(got, func.grad(dense, (0, 1))(*args))


def _batched(f, x, *rest):
    x = x.clone().requires_grad_()
    up = torch.eye(7, dtype=x.dtype)
    return torch.autograd.grad(f(x, *rest, "none"), x, up, is_grads_batched=True)


def _dual(f, x, *rest):
    with forward_ad.dual_level():
        return f(forward_ad.make_dual(x, x), *rest)


REFUSED = {
    "jvp": (lambda f, x, *rest: func.jvp(lambda x: f(x, *rest), (x,), (x,)), "forward-mode"),
    "jacfwd": (lambda f, x, *rest: func.jacfwd(f)(x, *rest), "forward-mode"),
    "hessian": (lambda f, x, *rest: func.hessian(f)(x, *rest), "forward-mode"),
    "a dual number": (_dual, "forward-mode"),
    "grad of grad": (
        lambda f, x, *rest: func.grad(lambda x: func.grad(f)(x, *rest).sum())(x),
        "no second derivative",
    ),
    "jacrev of jacrev": (
        lambda f, x, *rest: func.jacrev(func.jacrev(f))(x, *rest),
        "no second derivative",
    ),
    "autograd's hessian": (
        lambda f, x, *rest: torch.autograd.functional.hessian(lambda x: f(x, *rest), x),
        "no second derivative",
    ),
    "autograd's jvp": (  # by two backward passes, of which the second found zeros
        lambda f, x, *rest: torch.autograd.functional.jvp(lambda x: f(x, *rest), x, x),
        "no second derivative",
    ),
    "is_grads_batched": (_batched, r"use torch\.func\.jacrev"),
    "vectorize": (
        lambda f, x, *rest: torch.autograd.functional.jacobian(
            lambda x: f(x, *rest, "none"), x, vectorize=True
        ),
        r"use torch\.func\.jacrev",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_one_sentence_that_says_what_to_use(name):
    fused, dense, args = losses(False)
    ask, words = REFUSED[name]
    with pytest.raises(WideneckError, match=words) as caught:
        ask(fused, *args)
    assert "\n" not in str(caught.value)
    assert "use " in str(caught.value)
    ask(dense, *args)  # as the sentence says


def test_a_whole_graph_of_a_transform_stops_and_names_the_loss():
    fused, _, args = losses(False)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="leave out fullgraph=True"):
        torch.compile(func.grad(fused), backend="eager", fullgraph=True)(*args)


@pytest.mark.parametrize("name", ["sigsoftmax", "moss"])
def test_a_model_called_by_functional_call(name):
    extra = {"num_components": 2} if name == "moss" else {}
    head = wn.heads.build(name, hidden_size=5, vocab_size=11, dtype=torch.float64, **extra)
    hidden, target = torch.randn(7, 5, dtype=torch.float64), torch.arange(7)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = head

        def forward(self, fused):
            if fused:
                return self.head.nll(hidden, target, reduction="mean")
            return -self.head.log_probs(hidden).gather(1, target[:, None]).mean()

    model = Model()
    numbers = {name: p.detach() for name, p in model.named_parameters()}
    found = [
        func.grad(lambda p: func.functional_call(model, p, (fused,)))(numbers)  # noqa: B023
        for fused in (True, False)
    ]
    torch.testing.assert_close(found[0], found[1])
    assert all(gradient.abs().sum() > 0 for gradient in found[0].values())


def test_probabilities_and_class_weights_go_through_too():
    given = inputs(False)
    target, weight = torch.rand(2, 7, 11).double(), torch.rand(11).double()

    def loss(x, target):
        return wn.linear_cross_entropy(
            **{**given, "input": x, "target": target}, weight=weight, label_smoothing=0.1
        )

    x = given["input"].detach()
    got = func.vmap(func.grad(loss), (None, 0))(x, target)
    for one, own in zip(got, target, strict=True):
        x = x.detach().requires_grad_()
        torch.testing.assert_close(one, torch.autograd.grad(loss(x, own), x)[0])
