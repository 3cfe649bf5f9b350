import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import wideneck as wn
from functional.fused_examples import ACTIVATIONS, inputs, learned, leaves, slow
from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.functional import scores

REDUCTIONS = ("mean", "sum", "none")
both = wn.linear_cross_entropy_and_log_normalizer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_equals_its_slow_twin_with_all_gradients(kind, mixture, reduction, bias, z_loss):
    activation = ACTIVATIONS[kind]()
    given = inputs(mixture, bias=bias)
    parameters = leaves(given) + learned(activation)
    rest = {"activation": activation, "reduction": reduction, "z_loss": z_loss}

    for uses_normalizer in (0, 1):
        want, got = slow(**given, **rest), both(**given, **rest, chunk_size=3)
        up, up_normalizer = torch.randn_like(want[0]), torch.randn_like(want[1])
        gradients = []
        for loss, log_normalizer in (want, got):
            total = (loss * up).sum()
            if uses_normalizer:
                total = total + (log_normalizer * up_normalizer).sum()
            gradients.append(torch.autograd.grad(total, parameters))
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gradients_are_those_of_the_loss(kind, mixture, reduction, bias):
    activation = ACTIVATIONS[kind]()
    given = inputs(mixture, bias=bias, N=3, K=2, D=3, V=5)
    names = [name for name, value in given.items() if value is not None and name != "target"]

    def loss(*tensors):
        changed = dict(zip(names, tensors, strict=False))
        numbers = iter(tensors[len(names) :])
        fields = {
            name: next(numbers)
            for name, value in vars(activation).items()
            if isinstance(value, torch.Tensor)
        }
        moved = c.activation_config(activation, **fields)
        return wn.linear_cross_entropy(
            **{**given, **changed}, activation=moved, reduction=reduction, chunk_size=2
        )

    assert gradcheck(loss, (*(given[name] for name in names), *learned(activation)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mixture", [False, True])
def test_weights_that_cancel_leave_finite_gradients(mixture, dtype):
    """The log of the unnormalized probability: the log-normalizer's weight is 1 - 1 = 0."""
    given = inputs(mixture, K=1, dtype=dtype)
    gradients = []
    for loss, log_normalizer in (slow(**given, reduction="none"), both(**given, reduction="none")):
        total = (log_normalizer.reshape(loss.shape) - loss).sum()
        gradients.append(torch.autograd.grad(total, leaves(given), allow_unused=True))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("distance", [85.0, 95.0, 103.0, 200.0])
def test_a_component_that_explains_nothing_leaves_finite_gradients(distance):
    """Its responsibility is denormal or 0 in float32."""
    given = inputs(True, N=40, K=2, dtype=torch.float32)
    given["log_prior"] = torch.tensor([0.0, -distance]).expand(40, 2).requires_grad_()
    loss = wn.linear_cross_entropy(**given)
    got = torch.autograd.grad(loss, leaves(given))
    want = torch.autograd.grad(slow(**given)[0], leaves(given))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("chunk_size", [1, 4, 100, None])
def test_the_chunk_size_does_not_matter(chunk_size):
    given = inputs(True)
    want = wn.linear_cross_entropy(**given, activation="sigsoftmax", chunk_size=2)
    got = wn.linear_cross_entropy(**given, activation="sigsoftmax", chunk_size=chunk_size)
    torch.testing.assert_close(got, want)


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="from torch 2.13 on")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_softmax_is_that_of_pytorch(reduction):
    given = inputs(False)
    mine = wn.linear_cross_entropy(**given, reduction=reduction)
    theirs = F.linear_cross_entropy(
        given["input"],
        given["linear_weight"],
        given["target"],
        linear_bias=given["linear_bias"],
        reduction=reduction,
    )
    torch.testing.assert_close(mine, theirs)


def test_a_mixture_of_one_is_its_component():
    given = inputs(True, K=1)
    single = {**given, "input": given["input"][:, 0], "log_prior": None}
    torch.testing.assert_close(
        wn.linear_cross_entropy(**given, activation="gss"),
        wn.linear_cross_entropy(**single, activation="gss"),
    )


def test_leading_dimensions_are_free():
    given = inputs(False, N=6)
    flat = wn.linear_cross_entropy(**given, reduction="none")
    shaped = {**given, "input": given["input"].view(2, 3, -1), "target": given["target"].view(2, 3)}
    torch.testing.assert_close(wn.linear_cross_entropy(**shaped, reduction="none"), flat.view(2, 3))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_all_ignored_is_zero_with_zero_gradients(kind):
    given = inputs(True)
    given["target"].fill_(-100)
    loss = wn.linear_cross_entropy(**given, activation=ACTIVATIONS[kind](), z_loss=0.1)
    loss.backward()
    assert loss == 0
    assert all((leaf.grad == 0).all() for leaf in leaves(given))


def test_no_tokens_at_all_are_zero():
    given = inputs(False)
    loss = wn.linear_cross_entropy(given["input"][:0], given["linear_weight"], given["target"][:0])
    assert loss == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kept", ["input", "linear_weight", "linear_bias", "log_prior"])
def test_only_what_requires_a_gradient_gets_one(kept, reduction):
    given = inputs(True)
    for leaf in leaves(given):
        leaf.requires_grad_(leaf is given[kept])
    wn.linear_cross_entropy(**given, reduction=reduction).sum().backward()
    got = given[kept].grad
    for leaf in leaves(given):
        assert leaf is given[kept] or leaf.grad is None
    (want,) = torch.autograd.grad(slow(**given, reduction=reduction)[0].sum(), given[kept])
    torch.testing.assert_close(got, want)


@settings(deadline=None, max_examples=40)
@drawn(
    st.sampled_from(sorted(ACTIVATIONS)),
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=8),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_losses_are_finite_log_probabilities_of_any_scores(kind, scores, dtype):
    """Scores up to 1e4 in size: each token's loss, and exp(-loss) sums to one."""
    V = len(scores)
    weight = torch.tensor(scores, dtype=dtype).view(V, 1).requires_grad_()
    hidden = torch.ones(V, 1, dtype=dtype, requires_grad=True)
    activation = ACTIVATIONS[kind]()
    loss = wn.linear_cross_entropy(
        hidden, weight, torch.arange(V), activation=activation, reduction="none"
    )
    loss.sum().backward()
    assert loss.isfinite().all()
    assert (loss >= -8 * torch.finfo(loss.dtype).eps).all()
    torch.testing.assert_close((-loss).exp().sum().item(), 1.0, rtol=1e-5, atol=0)
    assert hidden.grad.isfinite().all()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_a_row_of_very_low_scores_is_finite(kind):
    weight = torch.full((9, 1), -1e4)
    loss = wn.linear_cross_entropy(
        torch.ones(3, 1), weight, torch.tensor([0, 4, 8]), activation=ACTIVATIONS[kind]()
    )
    torch.testing.assert_close(loss.item(), torch.tensor(9.0).log().item())


@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "gss", "softcap"])
@pytest.mark.parametrize("offset", [-60.0, 0.0, 60.0])
def test_float32_is_no_worse_than_the_obvious_code(kind, offset):
    """Error against float64 at most twice that of the slow twin in float32, and a rounding."""
    activation = ACTIVATIONS[kind]
    gold = inputs(False, N=64, D=32, V=500)
    gold["linear_bias"].data += offset
    errors = {}
    want = None
    for name, loss_of in (("gold", slow), ("slow", slow), ("fused", both)):
        dtype = torch.float64 if name == "gold" else torch.float32
        given = {
            key: v.detach().to(dtype).requires_grad_() if key != "target" and v is not None else v
            for key, v in gold.items()
        }
        loss, _ = loss_of(**given, activation=activation())
        result = [loss.detach(), *torch.autograd.grad(loss, leaves(given))]
        if want is None:
            want = result
        errors[name] = [(a.double() - b).abs().max() for a, b in zip(result, want, strict=True)]
    for fused, obvious, exact in zip(errors["fused"], errors["slow"], want, strict=True):
        assert fused <= 2 * obvious + 1e-7 * exact.abs().max()


@pytest.mark.parametrize("kind", ["wide", "rounded"])
def test_bfloat16_weights_are_accumulated_in_float32(kind, monkeypatch):
    """The gradient of many chunks is that of the rounded weights in float64, rounded once.

    Where the gradients of the scores are rounded, too, it is so on average: 200 sums in bfloat16
    would be off by 2**-6.
    """
    monkeypatch.setattr(scores, "kind_for", lambda device, narrow: kind)
    given = inputs(False, N=600, D=16, V=50)
    low = {
        k: v.detach().bfloat16().requires_grad_()
        for k, v in given.items()
        if k != "target" and v is not None
    }
    high = {k: v.detach().double().requires_grad_() for k, v in low.items()}
    loss = wn.linear_cross_entropy(**low, target=given["target"], chunk_size=3, reduction="sum")
    loss.backward()
    slow(**high, target=given["target"], reduction="sum")[0].backward()
    assert loss.dtype == torch.float32
    for name in low:
        assert low[name].grad.dtype == torch.bfloat16
        want = high[name].grad
        error = (low[name].grad.double() - want).abs()
        assert error.norm() <= 2**-8 * want.norm()
        if kind == "wide":
            assert (error <= 2**-8 * want.abs() + 1e-4 * want.abs().max()).all()


class _Largest(TorchDispatchMode):
    """The largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_never_holds_the_scores_of_all_tokens(reduction):
    wn.functional.release_workspace()
    given = inputs(True, N=64, K=4, D=3, V=400)
    with _Largest() as seen:
        wn.linear_cross_entropy(
            **given, activation="sigsoftmax", chunk_size=4, reduction=reduction
        ).sum().backward()
    assert 0 < seen.numel <= 4 * 4 * 400


BAD = {
    "Targets must lie in [0, 11) or be ignore_index = -100, got 11": {
        "target": torch.full((7,), 11)
    },
    "got -5": {"target": torch.full((7,), -5)},
    "Targets must be token ids (integers), got torch.float32": {"target": torch.zeros(7)},
    "Hidden states must be floating point, got torch.int64": {"input": torch.ones(7, 5).long()},
    "their last dimensions must be the same": {"input": torch.randn(7, 6)},
    "leading shape (6,)": {"target": torch.zeros(6).long()},
    "linear_weight must be a floating-point matrix": {"linear_weight": torch.randn(11)},
    "linear_bias must have shape (11,), got (5,)": {"linear_bias": torch.randn(5)},
    "(..., K, D) with log_prior (..., K)": {"log_prior": torch.zeros(7, 2)},
    "Did you mean 'sigsoftmax'?": {"activation": "sigsofmax"},
    "reduction is one of mean, sum, none, got 'avg'": {"reduction": "avg"},
    "chunk_size must be at least 1": {"chunk_size": 0},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_gets_one_sentence(message):
    with pytest.raises(WideneckError) as caught:
        wn.linear_cross_entropy(**{**inputs(False), **BAD[message]})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mixture_without_components_is_refused():
    with pytest.raises(WideneckError, match="at least one component"):
        wn.linear_cross_entropy(
            torch.randn(7, 0, 5),
            torch.randn(11, 5),
            torch.zeros(7).long(),
            log_prior=torch.zeros(7, 0),
        )


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_a_nan_never_becomes_a_finite_loss(kind):
    given = inputs(True)
    given["input"].data[3, 1, 2] = torch.nan
    loss = wn.linear_cross_entropy(**given, activation=ACTIVATIONS[kind](), reduction="none")
    assert loss.isnan().tolist() == [n == 3 for n in range(7)]


def test_a_nan_is_named_under_anomaly_detection():
    given = inputs(False)
    given["input"].data[4, 1] = torch.nan
    with (
        pytest.warns(UserWarning, match="Anomaly"),
        torch.autograd.detect_anomaly(),
        pytest.raises(WideneckError, match="NaN or infinity in 1 of 7 tokens, first in token 4"),
    ):
        wn.linear_cross_entropy(**given)
