"""Class weights, label smoothing and class probabilities, against PyTorch's own cross entropy."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import wideneck as wn
import wideneck.functional as fn
from functional.fused_examples import ACTIVATIONS, inputs, learned, leaves
from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.functional import spread

REDUCTIONS = ("mean", "sum", "none")
KINDS = ("ids", "probabilities", "few probabilities")
both = wn.linear_cross_entropy_and_log_normalizer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def asked(kind: str, weighted: bool, smoothing: float, *, N=7, V=11, M=4) -> dict:
    """Arguments beside those of `inputs`, whose target they may replace."""
    found: dict = {"label_smoothing": smoothing}
    if weighted:
        found["weight"] = torch.rand(V, dtype=torch.float64)
    if kind == "probabilities":
        found["target"] = torch.rand(N, V, dtype=torch.float64)  # rows need not sum to one
    elif kind == "few probabilities":
        found["target"] = torch.rand(N, M, dtype=torch.float64)
        ids = torch.rand(N, V).topk(M).indices
        ids[:, 1] = ids[:, 0]  # one that is named twice has both probabilities
        found["target_ids"] = ids
    return found


def whole(given: dict, V=11) -> dict:
    """The same with the probabilities of all V tokens, which PyTorch can read."""
    if "target_ids" not in given:
        return given
    target = torch.zeros(len(given["target"]), V, dtype=given["target"].dtype)
    target.scatter_add_(1, given["target_ids"], given["target"])
    return {**{k: v for k, v in given.items() if k != "target_ids"}, "target": target}


def definition(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    log_prior: Tensor | None = None,
    activation: str | c.Activation = "softmax",
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The specification, token by token and class by class, with all N x V scores."""
    score = fn.log_score(F.linear(input, linear_weight, linear_bias), activation)
    log_p, log_normalizer = score.log_softmax(-1), score.logsumexp(-1)
    squares = log_normalizer.square()
    if log_prior is not None:
        log_p, squares = fn.log_mixture(log_prior, log_p), squares.mean(-1)
    V = log_p.shape[-1]
    w = torch.ones(V, dtype=log_p.dtype) if weight is None else weight
    losses, items, kept = [], 0.0, 0
    for n, own in enumerate(target):
        if not target.is_floating_point() and own == -100:
            losses.append(0 * log_p[n].sum())
            squares = squares * (torch.arange(len(target)) != n)
            continue
        t = own if target.is_floating_point() else F.one_hot(own, V)
        q = w * ((1 - label_smoothing) * t + label_smoothing / V)
        losses.append(-(q * log_p[n]).sum())
        items += 1.0 if target.is_floating_point() else w[own].item()
        kept += 1
    shape = (-1,) if log_prior is None else (-1, 1)
    if not target.is_floating_point():
        log_normalizer = log_normalizer * (target != -100).view(shape)
    loss, squares = torch.stack(losses), z_loss * squares
    if reduction == "none":
        return loss + squares, log_normalizer
    if reduction == "sum":
        return loss.sum() + squares.sum(), log_normalizer
    return loss.sum() / items + squares.sum() / kept, log_normalizer


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="from torch 2.13 on")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_softmax_has_the_losses_and_gradients_of_pytorch(kind, weighted, smoothing, reduction):
    given = {**inputs(False), **asked(kind, weighted, smoothing)}
    del given["log_prior"]
    loss = wn.linear_cross_entropy(**given, reduction=reduction, chunk_size=3)
    theirs = F.linear_cross_entropy(**whole(given), reduction=reduction)
    up = torch.randn_like(loss)
    named = [given[name] for name in ("input", "linear_weight", "linear_bias")]
    torch.testing.assert_close(loss, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(loss, named, up), torch.autograd.grad(theirs, named, up)
    )
    twin, _ = definition(**whole(given), reduction=reduction)
    torch.testing.assert_close(twin, theirs)


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_its_definition_with_all_gradients(activation, mixture):
    options = itertools.product(KINDS, (False, True), (0.0, 0.3))
    for (kind, weighted, smoothing), reduction, z_loss, bias in zip(
        options, REDUCTIONS * 4, (0.0, 0.1) * 6, (True, True, False) * 4, strict=True
    ):
        numbers = ACTIVATIONS[activation]()
        given = {**inputs(mixture, bias=bias), **asked(kind, weighted, smoothing)}
        names = ("input", "linear_weight", "linear_bias", "log_prior")
        parameters = [given[name] for name in names if given[name] is not None] + learned(numbers)
        rest = {"activation": numbers, "reduction": reduction, "z_loss": z_loss}
        want, got = definition(**whole(given), **rest), both(**given, **rest, chunk_size=3)
        torch.testing.assert_close(got, want)
        up, up_normalizer = torch.randn_like(want[0]), torch.randn_like(want[1])
        for uses_normalizer in (0, 1):
            gradients = []
            for loss, log_normalizer in (want, got):
                total = (loss * up).sum()
                if uses_normalizer:
                    total = total + (log_normalizer * up_normalizer).sum()
                gradients.append(torch.autograd.grad(total, parameters, retain_graph=True))
            torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("activation", ["softmax", "sigsoftmax", "gss", "plif"])
def test_gradients_are_those_of_the_loss(activation, mixture, kind):
    numbers = ACTIVATIONS[activation]()
    small = {"N": 3, "V": 5}
    given = inputs(mixture, K=2, D=3, **small)
    names = [name for name, value in given.items() if value is not None and name != "target"]
    rest = {**given, **asked(kind, True, 0.2, M=2, **small)}

    def loss(*tensors):
        values = iter(tensors[len(names) :])
        fields = {k: next(values) for k, v in vars(numbers).items() if isinstance(v, Tensor)}
        moved = c.activation_config(numbers, **fields)
        changed = {**rest, **dict(zip(names, tensors, strict=False))}
        return wn.linear_cross_entropy(**changed, activation=moved, z_loss=0.1, chunk_size=2)

    assert gradcheck(loss, (*(given[name] for name in names), *learned(numbers)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixture", [False, True])
def test_the_chunk_and_the_block_size_do_not_matter(mixture, kind, monkeypatch):
    given = {**inputs(mixture), **asked(kind, True, 0.1)}
    results = []
    for chunk_size, block in ((None, spread.BLOCK), (2, spread.BLOCK), (3, 1), (None, 50)):
        monkeypatch.setattr(spread, "BLOCK", block)
        loss = wn.linear_cross_entropy(**given, activation="sigsoftmax", chunk_size=chunk_size)
        gradients = torch.autograd.grad(loss, leaves(inputs_of(given)))
        results.append((loss.detach(), *gradients))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


def inputs_of(given: dict) -> dict:
    return {k: given[k] for k in ("input", "linear_weight", "linear_bias", "log_prior")}


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("mixture", [False, True])
def test_all_ignored_and_all_without_weight_are_zero_with_zero_gradients(mixture, smoothing):
    for target, weight in ((-100, torch.rand(11)), (3, torch.zeros(11))):
        given = inputs(mixture)
        given["target"].fill_(target)
        loss = wn.linear_cross_entropy(**given, weight=weight, label_smoothing=smoothing)
        loss.backward()
        assert loss == 0
        assert all((leaf.grad == 0).all() for leaf in leaves(given))
    none = {k: v if v is None or k.startswith("linear") else v[:0] for k, v in given.items()}
    assert wn.linear_cross_entropy(**{**none, "target": torch.zeros(0, 11)}) == 0


def test_shapes_are_free_and_probabilities_may_be_narrow():
    given = {**inputs(False, N=6), **asked("probabilities", False, 0.1, N=6)}
    low = given["target"].bfloat16()
    flat = wn.linear_cross_entropy(**{**given, "target": low.double()}, reduction="none")
    shaped = {**given, "input": given["input"].view(2, 3, -1), "target": low.view(2, 3, -1)}
    loss, log_normalizer = both(**shaped, reduction="none")
    assert log_normalizer.shape == (2, 3)
    torch.testing.assert_close(loss, flat.view(2, 3))


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("offset", [-60.0, 0.0, 60.0])
def test_float32_is_no_worse_than_the_obvious_code(offset, mixture):
    """Error against float64 at most twice that of the definition in float32, and a rounding."""
    gold = {**inputs(mixture, N=48, D=16, V=300), "label_smoothing": 0.1}
    gold["linear_bias"].data += offset
    errors, want = {}, []
    for name, loss_of in (("gold", definition), ("slow", definition), ("fused", both)):
        dtype = torch.float64 if name == "gold" else torch.float32
        given = {
            k: v.detach().to(dtype).requires_grad_()
            if isinstance(v, Tensor) and k != "target"
            else v
            for k, v in gold.items()
        }
        loss, _ = loss_of(**given, activation="sigsoftmax")
        result = [loss.detach(), *torch.autograd.grad(loss, leaves(given))]
        want = want or result
        errors[name] = [(a.double() - b).abs().max() for a, b in zip(result, want, strict=True)]
    for fused, obvious, exact in zip(errors["fused"], errors["slow"], want, strict=True):
        assert fused <= 2 * obvious + 2e-7 * exact.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixture", [False, True])
def test_a_nan_never_becomes_a_finite_loss(mixture, kind):
    given = {**inputs(mixture), **asked(kind, True, 0.1)}
    given["input"].data[3, ..., 2] = torch.nan
    loss = wn.linear_cross_entropy(**given, reduction="none")
    assert loss.isnan().tolist() == [n == 3 for n in range(7)]


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_without_a_graph_break(kind):
    given = {**inputs(True), **asked(kind, True, 0.1)}
    parameters = leaves(inputs_of(given))

    def step(input):
        moved = {**given, "input": input.tanh()}
        return wn.linear_cross_entropy(**moved, activation="sigsoftmax", z_loss=0.1)

    torch._dynamo.reset()
    fast = torch.compile(step, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(step(given["input"]), parameters)
    torch.testing.assert_close(torch.autograd.grad(fast(given["input"]), parameters), want)


class _Largest(TorchDispatchMode):
    """The largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [tensor for tensor in tree_leaves(out) if isinstance(tensor, Tensor)]
        self.numel = max(self.numel, *(tensor.numel() for tensor in made), 0)
        return out


@pytest.mark.parametrize("kind", ["ids", "few probabilities"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_never_holds_the_scores_of_all_tokens(reduction, kind):
    fn.release_workspace()
    sizes = {"N": 64, "V": 400}
    given = {**inputs(True, K=4, D=3, **sizes), **asked(kind, True, 0.1, **sizes)}
    with _Largest() as seen:
        wn.linear_cross_entropy(**given, chunk_size=4, reduction=reduction).sum().backward()
    assert 0 < seen.numel <= 4 * 4 * 400


def test_without_smoothing_or_probabilities_no_pass_is_added(monkeypatch):
    """Class weights, a z-loss and ignored rows stay on the narrow side of the products."""

    def never(*_):
        raise AssertionError("a pass over the scores")

    monkeypatch.setattr(spread.SpreadChunk, "of", never)
    wn.linear_cross_entropy(**inputs(True), weight=torch.rand(11), z_loss=0.1).backward()
    with pytest.raises(AssertionError, match="a pass"):
        wn.linear_cross_entropy(**inputs(True), label_smoothing=0.1)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_z_loss_apart_is_what_it_added(kind, mixture, reduction):
    given = {**inputs(mixture), **asked(kind, True, 0.1), "reduction": reduction}
    plain = wn.linear_cross_entropy(**given)
    loss, log_normalizer = both(**given, z_loss=0.3)
    part = fn.z_loss(log_normalizer, given["target"], 0.3, reduction=reduction)
    torch.testing.assert_close(part, loss - plain)
    if reduction == "mean":  # of tokens: what their classes weigh is not in it
        kept = 7 if given["target"].is_floating_point() else 6
        torch.testing.assert_close(
            part, 0.3 * log_normalizer.square().sum() / log_normalizer[0].numel() / kept
        )


def test_the_z_loss_of_no_targets_is_zero_and_other_shapes_are_refused():
    target = torch.full((3,), -100)
    assert fn.z_loss(torch.zeros(3), target, 0.1) == 0
    with pytest.raises(WideneckError, match=r"shape of the targets \(3,\).*got \(4,\)"):
        fn.z_loss(torch.zeros(4), target, 0.1)
    with pytest.raises(WideneckError, match="reduction is one of"):
        fn.z_loss(torch.zeros(3), target, 0.1, reduction="avg")


@pytest.mark.parametrize("name", ["softmax", "moss", "moc", "low_rank"])
def test_a_head_takes_them_too(name):
    extra = {"moss": {"num_components": 2}, "moc": {"num_components": 2}, "low_rank": {"rank": 3}}
    head = wn.heads.build(
        name, hidden_size=5, vocab_size=11, bias=True, dtype=torch.float64, **extra.get(name, {})
    )
    hidden = torch.randn(7, 5, dtype=torch.float64)
    for kind in KINDS:
        given = {"target": inputs(False)["target"], **asked(kind, True, 0.2)}
        log_p = head.log_probs(hidden)
        want = F.cross_entropy(log_p, **whole(given), reduction="none")
        torch.testing.assert_close(head.nll(hidden, **given), want)


BAD = {
    "label_smoothing must lie in [0, 1], got 1.5": {"label_smoothing": 1.5},
    "must be floating point of shape (11,), got torch.float32 of shape (5,)": {
        "weight": torch.rand(5)
    },
    "got torch.int64 of shape (11,)": {"weight": torch.ones(11).long()},
    "class probabilities are of the whole vocabulary, (..., 11)": {"target": torch.rand(7, 10)},
    "leading shape (6,)": {"target": torch.rand(6, 11)},
    "ignore_index is for targets that are token ids, got -1": {
        "target": torch.rand(7, 11),
        "ignore_index": -1,
    },
    "no gradient for target, which requires one: pass target.detach()": {
        "target": torch.rand(7, 11, requires_grad=True)
    },
    "no gradient for weight": {"weight": torch.rand(11, requires_grad=True)},
    "target_ids (..., M) says": {"target_ids": torch.zeros(7).long()},
    "same shape, got (7, 3) and torch.float32 of shape (7, 4)": {
        "target": torch.rand(7, 4),
        "target_ids": torch.zeros(7, 3).long(),
    },
    "Targets must be token ids (integers), got torch.float64": {
        "target": torch.rand(7, 4),
        "target_ids": torch.zeros(7, 4).double(),
    },
    "Targets must lie in [0, 11), got 11": {
        "target": torch.rand(7, 4),
        "target_ids": torch.full((7, 4), 11),
    },
    "Targets must lie in [0, 11), got -100": {
        "target": torch.rand(7, 4),
        "target_ids": torch.full((7, 4), -100),
    },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_gets_one_sentence(message):
    with pytest.raises(WideneckError) as caught:
        wn.linear_cross_entropy(**{**inputs(False), **BAD[message]})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_refused_for_a_gradient_that_nobody_takes():
    with torch.no_grad():
        wn.linear_cross_entropy(**inputs(False), weight=torch.rand(11, requires_grad=True))
