"""Token outputs against the whole distribution in float64, and what must hold of any."""

import math

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from hypothesis import given, settings
from hypothesis import strategies as st

import wideneck as wn
import wideneck.functional as fn
from functional.fused_examples import ACTIVATIONS, inputs, learned, leaves
from functional.token_examples import ALL, dense
from wideneck.errors import WideneckError
from wideneck.functional import token_block

N, V = 7, 11
TEMPERATURES = {"one": 1.0, "cold": 0.6, "hot": 1.8, "by token": torch.linspace(0.5, 1.7, N)}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def loss_of(outputs, weights, names=("log_prob", "entropy")):
    return sum((getattr(outputs, name) * w).sum() for name, w in zip(names, weights, strict=False))


def same(got, want, **tolerance):
    for name in ALL:
        found, expected = getattr(got, name), getattr(want, name)
        torch.testing.assert_close(found, expected, msg=lambda m, n=name: f"{n}: {m}", **tolerance)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_equals_the_whole_distribution_with_all_gradients(kind, mixture, temperature):
    T = TEMPERATURES[temperature]
    example, activation = inputs(mixture), ACTIVATIONS[kind]()
    options = {"activation": activation, "temperature": T}
    got = fn.linear_token_outputs(**example, **options, outputs=ALL, chunk_size=3)
    want = dense(**example, **options)
    same(got, want)
    parameters, weights = leaves(example) + learned(activation), torch.randn(2, N).double()
    for names in (("log_prob", "entropy"), ("log_prob",), ("entropy",)):
        ours = torch.autograd.grad(loss_of(got, weights, names), parameters, retain_graph=True)
        theirs = torch.autograd.grad(loss_of(want, weights, names), parameters, retain_graph=True)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "gss"])
def test_gradients_are_those_of_differences(kind, mixture):
    example, activation = inputs(mixture), ACTIVATIONS[kind]()
    target = example.pop("target")
    names = [name for name, value in example.items() if value is not None]

    def both(*tensors):
        given = dict(zip(names, tensors[: len(names)], strict=True))
        found = fn.linear_token_outputs(
            **given, target=target, activation=activation, temperature=1.4,
            outputs=("log_prob", "entropy"), chunk_size=4,
        )  # fmt: skip
        return found.log_prob, found.entropy

    tensors = [example[name] for name in names] + learned(activation)
    assert torch.autograd.gradcheck(both, tensors)


@pytest.mark.parametrize("outputs", [(name,) for name in ALL] + [("entropy", "log_prob")])
@pytest.mark.parametrize("mixture", [False, True])
def test_only_what_is_asked_for_is_there(mixture, outputs):
    example = inputs(mixture)
    got = fn.linear_token_outputs(**example, outputs=outputs, temperature=1.3)
    want = dense(**example, temperature=1.3)
    for name in ALL:
        assert (getattr(got, name) is not None) == (name in outputs)
        if name in outputs:
            torch.testing.assert_close(getattr(got, name), getattr(want, name))
            assert getattr(got, name).requires_grad == (name in ("log_prob", "entropy"))


@pytest.mark.parametrize("mixture", [False, True])
def test_the_log_probability_is_minus_the_loss(mixture):
    example = inputs(mixture)
    prior = example["log_prior"].log_softmax(-1) if mixture else None
    normalized = {**example, "log_prior": prior}
    nll = wn.linear_cross_entropy(**normalized, activation="sigsoftmax", reduction="none")
    for outputs in (("log_prob",), ("log_prob", "top1")):
        got = fn.linear_token_outputs(**example, activation="sigsoftmax", outputs=outputs)
        torch.testing.assert_close(got.log_prob, -nll)
        ours = torch.autograd.grad(got.log_prob[3], leaves(example))
        theirs = torch.autograd.grad(-nll[3], leaves(example), retain_graph=True)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("scale", [30.0, 400.0])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 6.0, torch.linspace(0.5, 6.0, N)])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "gss", "sigmoid"])
def test_probabilities_too_small_for_a_number(kind, mixture, temperature, scale):
    """Float32, with log-probabilities down to some -1000: hot ones count them, a mean does, too."""
    example = inputs(mixture, dtype=torch.float32)
    example["input"] = (example["input"].detach() * scale).requires_grad_()
    high = {
        name: value.detach().double().requires_grad_()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in example.items()
    }
    options = {"activation": kind, "temperature": temperature}
    got = fn.linear_token_outputs(**example, **options, outputs=ALL)
    want = dense(**high, **options)
    weights = torch.randn(2, N)
    ours = torch.autograd.grad(loss_of(got, weights), leaves(example))
    theirs = torch.autograd.grad(loss_of(want, weights.double()), leaves(high))
    for name in ALL[:-1]:
        torch.testing.assert_close(
            getattr(got, name).double(), getattr(want, name), rtol=1e-5, atol=2e-4
        )
    if kind != "sigmoid":  # of many tokens 1 in rounded numbers: the twin takes them for ties
        assert torch.equal(got.top1, want.top1)
    for mine, exact in zip(ours, theirs, strict=True):
        scale = exact.abs().max().clamp(min=1e-2)
        assert ((mine.double() - exact).abs().max() / scale) < 2e-3


@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "sigmoid"])
def test_probabilities_of_few_digits(kind):
    """Of a mixture in float32, none 0 but many so small that a number has lost digits."""
    example = {
        "input": torch.zeros(2, 2, 3),
        "linear_weight": torch.zeros(240, 3),
        "linear_bias": torch.linspace(0, -(50 if kind == "sigsoftmax" else 97), 240),
        "log_prior": torch.zeros(2, 2),
        "target": torch.tensor([0, 239]),
    }
    high = {k: v.double() if v.is_floating_point() else v for k, v in example.items()}
    got = fn.linear_token_outputs(**example, activation=kind, outputs=ALL)
    want = dense(**high, activation=kind)
    for name in ALL[:-1]:
        torch.testing.assert_close(
            getattr(got, name).double(), getattr(want, name), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "gss", "sigmoid"])
@pytest.mark.parametrize("scale", [20.0, 60.0])
def test_a_hot_distribution_has_all_digits_of_float64(kind, mixture, scale):
    example = inputs(mixture)
    example["input"] = (example["input"].detach() * scale).requires_grad_()
    options = {"activation": kind, "temperature": 8.0}
    got = fn.linear_token_outputs(**example, **options, outputs=ALL)
    want = dense(**example, **options)
    weights = torch.randn(2, N).double()
    for name in ALL[:-1]:
        torch.testing.assert_close(getattr(got, name), getattr(want, name))
    ours = torch.autograd.grad(loss_of(got, weights), leaves(example))
    theirs = torch.autograd.grad(loss_of(want, weights), leaves(example))
    torch.testing.assert_close(ours, theirs)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["softmax", "sigsoftmax", "gss", "relu", "sigmoid", "softcap"]),
    st.booleans(),
    st.floats(0.2, 5.0),
    st.floats(0.0, 20.0),
)
def test_bounds(seed, kind, mixture, temperature, scale):
    torch.manual_seed(seed)
    example = inputs(mixture, dtype=torch.float32)
    example["input"] = example["input"].detach() * scale
    got = fn.linear_token_outputs(**example, activation=kind, temperature=temperature, outputs=ALL)
    kept = example["target"] != -100
    log_V = math.log(V) * (1 + 1e-5)
    assert (got.log_prob <= 0).all()
    assert ((got.entropy >= 0) & (got.entropy <= log_V)).all()
    assert ((got.log_sum_sq_prob <= 0) & (got.log_sum_sq_prob >= -log_V)).all()
    # Jensen: sum_j p_j log p_j is at most log sum_j p_j^2, and the mean of logs at most -log V.
    assert (-got.entropy <= got.log_sum_sq_prob + 1e-5).all()
    assert (got.mean_log_prob[kept] <= -log_V * (1 - 3e-5)).all()
    for field in (got.log_prob, got.entropy, got.log_sum_sq_prob, got.mean_log_prob, got.top1):
        assert not field[~kept].any()
    # The most probable of V tokens has at least 1/V, and one of a probability above 1/2 is it.
    assert (got.log_prob[got.top1] >= -log_V).all()
    assert got.top1[kept & (got.log_prob > math.log(0.5001))].all()


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_a_uniform_and_a_certain_distribution(mixture, temperature):
    example = inputs(mixture, bias=False)
    flat = {**example, "input": torch.zeros_like(example["input"])}
    got = fn.linear_token_outputs(**flat, temperature=temperature, outputs=ALL)
    kept = example["target"] != -100
    for name, value in (
        ("log_prob", -math.log(V)),
        ("entropy", math.log(V)),
        ("log_sum_sq_prob", -math.log(V)),
        ("mean_log_prob", -math.log(V)),
    ):
        expected = torch.full((N,), value, dtype=torch.float64) * kept
        torch.testing.assert_close(getattr(got, name), expected)
    assert torch.equal(got.top1, example["target"] == 0)  # all tie
    certain = {**example, "linear_weight": torch.eye(V, 5).double() * 100}
    certain["input"] = torch.zeros_like(example["input"])
    certain["input"][..., 3] = 100
    certain["target"] = torch.full((N,), 3)
    got = fn.linear_token_outputs(**certain, temperature=temperature, outputs=ALL)
    zero = torch.zeros(N, dtype=torch.float64)
    torch.testing.assert_close(got.log_prob, zero)
    torch.testing.assert_close(got.entropy, zero)
    torch.testing.assert_close(got.log_sum_sq_prob, zero)
    assert got.top1.all()


def test_the_first_of_those_that_tie_is_the_top():
    weight = torch.tensor([[-1.0], [2.0], [2.0], [-3.0]])
    hidden = torch.ones(4, 1)
    target = torch.arange(4)
    got = fn.linear_token_outputs(hidden, weight, target, outputs=("top1",))
    assert got.top1.tolist() == [False, True, False, False]
    # A relu takes all scores below 0 for the same.
    below, rows = -hidden * weight[1], weight.abs().flip(0)
    got = fn.linear_token_outputs(below, rows, target, outputs=("top1",), activation="relu")
    assert got.top1.tolist() == [True, False, False, False]
    prior = torch.zeros(4, 2).log_softmax(-1)
    mixed = hidden[:, None].expand(4, 2, 1)
    got = fn.linear_token_outputs(mixed, weight, target, outputs=("top1",), log_prior=prior)
    assert got.top1.tolist() == [False, True, False, False]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("mixture", [False, True])
def test_without_a_target_all_is_zero_and_so_are_the_gradients(mixture, temperature):
    for target in (torch.full((N,), -100), torch.empty(0, dtype=torch.long)):
        example = {**inputs(mixture), "target": target}
        if not len(target):
            for name in ("input", "log_prior"):
                if example[name] is not None:
                    example[name] = example[name].detach()[:0].requires_grad_()
        got = fn.linear_token_outputs(**example, temperature=temperature, outputs=ALL)
        total = got.log_prob.sum() + got.entropy.sum()
        assert total == 0
        assert not got.top1.any()
        for gradient in torch.autograd.grad(total, leaves(example)):
            assert not gradient.any()


@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "relu"])
@pytest.mark.parametrize("mixture", [False, True])
def test_blocks_and_chunks_change_nothing(monkeypatch, mixture, kind):
    example = inputs(mixture, N=23, V=50)
    options = {"activation": kind, "temperature": 1.2, "outputs": ALL}
    want = fn.linear_token_outputs(**example, **options)
    weights = torch.randn(2, 23).double()
    gradients = torch.autograd.grad(loss_of(want, weights), leaves(example))
    for name in ("BLOCK", "MIXTURE_BLOCK"):  # one token a block
        monkeypatch.setattr(token_block, name, 1)
    got = fn.linear_token_outputs(**example, **options, chunk_size=5)
    same(got, want)
    ours = torch.autograd.grad(loss_of(got, weights), leaves(example))
    torch.testing.assert_close(ours, gradients)


def test_leading_dimensions_and_temperatures_broadcast():
    hidden, weight = torch.randn(2, 3, 5).double(), torch.randn(V, 5).double()
    target, T = torch.randint(V, (2, 3)), torch.tensor([[0.5], [2.0]])
    got = fn.linear_token_outputs(hidden, weight, target, temperature=T, outputs=ALL)
    same(got, dense(hidden, weight, target, temperature=T))
    assert got.entropy.shape == (2, 3)
    # Of an ignored target the temperature does not count.
    target[1] = -100
    zero = torch.tensor([[0.5], [0.0]])
    torch.testing.assert_close(
        fn.linear_token_outputs(hidden, weight, target, temperature=zero).log_prob[0],
        got.log_prob[0],
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_narrow_numbers_are_computed_in_float32(temperature):
    example = inputs(True, dtype=torch.float32)
    low = {
        name: value.detach().bfloat16().requires_grad_() if name != "target" else value
        for name, value in example.items()
    }
    high = {name: v.detach().double() if name != "target" else v for name, v in low.items()}
    options = {"activation": "sigsoftmax", "temperature": temperature, "outputs": ALL}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = fn.linear_token_outputs(**low, **options)
    want = dense(**high, activation="sigsoftmax", temperature=temperature)
    for name in ALL[:-1]:
        assert getattr(got, name).dtype == torch.float32
        torch.testing.assert_close(
            getattr(got, name).double(), getattr(want, name), atol=1e-5, rtol=0
        )
    (got.log_prob.sum() + got.entropy.sum()).backward()
    assert low["input"].grad.dtype == torch.bfloat16


@pytest.mark.parametrize(("mixture", "temperature"), [(False, "by token"), (True, "one")])
def test_compiles_without_a_graph_break(mixture, temperature):
    activation = ACTIVATIONS["gss"]()
    example, T = inputs(mixture), TEMPERATURES[temperature]
    parameters, weights = leaves(example) + learned(activation), torch.randn(2, N).double()

    def step(input):
        moved = {**example, "input": input.tanh()}
        got = fn.linear_token_outputs(**moved, activation=activation, temperature=T, outputs=ALL)
        return loss_of(got, weights), got.top1, got.mean_log_prob

    torch._dynamo.reset()
    fast = torch.compile(step, fullgraph=True, backend="aot_eager")
    want, got = step(example["input"]), fast(example["input"])
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        torch.autograd.grad(got[0], parameters), torch.autograd.grad(want[0], parameters)
    )


def test_a_second_derivative_is_refused():
    example = inputs(False)
    got = fn.linear_token_outputs(**example, outputs=("entropy",))
    (first,) = torch.autograd.grad(got.entropy.sum(), example["input"], create_graph=True)
    with pytest.raises(WideneckError, match="no second derivative"):
        first.sum().backward()


@pytest.mark.parametrize("name", ["log_prob", "entropy"])
def test_other_derivatives_are_refused(name):
    example = inputs(False)
    x = example.pop("input").detach()

    def of(x):
        return getattr(fn.linear_token_outputs(x, **example, outputs=ALL, temperature=2.0), name)

    with pytest.raises(WideneckError, match="no second derivative"):
        torch.autograd.functional.jvp(of, x, x)
    with pytest.raises(WideneckError, match="no gradients for is_grads_batched"):
        torch.autograd.functional.jacobian(of, x, vectorize=True)
    with forward_ad.dual_level(), pytest.raises(WideneckError, match="no forward-mode"):
        of(forward_ad.make_dual(x, x))


def test_nothing_is_recorded_where_no_gradient_is():
    example = inputs(True)
    with torch.inference_mode():
        got = fn.linear_token_outputs(**example, outputs=ALL, temperature=2.0)
    same(got, dense(**{k: v if v is None else v.detach() for k, v in example.items()},
                    temperature=2.0))  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outputs": ("log_probs",)}, "outputs are some of log_prob, entropy"),
        ({"outputs": ()}, "outputs are some of"),
        ({"outputs": None}, "outputs are some of"),
        ({"temperature": 0.0}, "positive number, got 0.0"),
        ({"temperature": -1}, "positive number, got -1"),
        ({"temperature": torch.tensor(True)}, "positive numbers, got torch.bool"),
        ({"temperature": math.nan}, "positive number, got nan"),
        ({"temperature": True}, "positive number, got True"),
        ({"temperature": torch.zeros(N)}, "positive number for every target"),
        ({"temperature": torch.ones(N + 1)}, "does not broadcast"),
        ({"temperature": torch.ones(N, requires_grad=True)}, "no gradient for the temperature"),
        ({"target": torch.full((N,), V)}, "in [0, 11)"),
        ({"chunk_size": 0}, "at least 1 token"),
    ],
)
def test_mistakes_are_one_sentence(options, said):
    with pytest.raises(WideneckError) as caught:
        fn.linear_token_outputs(**{**inputs(False), "outputs": ALL, **options})
    assert said in str(caught.value)
