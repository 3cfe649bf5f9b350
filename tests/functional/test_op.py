import pytest
import torch
from torch.utils.checkpoint import checkpoint

import wideneck as wn
from functional.fused_examples import ACTIVATIONS, inputs, learned, leaves, slow
from wideneck.errors import WideneckError
from wideneck.functional import compiled, differentiable, passes
from wideneck.functional.affine import affine
from wideneck.functional.forms import Identity

REDUCTIONS = ("mean", "sum", "none")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "gss", "plif"])
def test_compiles_without_a_graph_break(kind, reduction):
    activation = ACTIVATIONS[kind]()
    given = inputs(True)
    parameters = leaves(given) + learned(activation)

    def step(input, *rest):
        moved = {**given, "input": input.tanh()}
        return wn.linear_cross_entropy(**moved, activation=activation, reduction=reduction).sum()

    torch._dynamo.reset()
    fast = torch.compile(step, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(step(given["input"]), parameters)
    got = torch.autograd.grad(fast(given["input"]), parameters)
    torch.testing.assert_close(got, want)


def test_the_normalizer_compiles_too():
    given = inputs(False)

    def step(input):
        loss, log_normalizer = wn.linear_cross_entropy_and_log_normalizer(
            **{**given, "input": input}
        )
        return loss + log_normalizer.square().sum()

    torch._dynamo.reset()
    fast = torch.compile(step, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(step(given["input"]), leaves(given))
    torch.testing.assert_close(torch.autograd.grad(fast(given["input"]), leaves(given)), want)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_works_under_gradient_checkpointing(use_reentrant):
    given = inputs(True)

    def step(input):
        return wn.linear_cross_entropy(**{**given, "input": input.sin()}, activation="sigsoftmax")

    want = torch.autograd.grad(step(given["input"]), leaves(given))
    checkpoint(step, given["input"], use_reentrant=use_reentrant).backward()
    torch.testing.assert_close([leaf.grad for leaf in leaves(given)], list(want))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_retained_graph_gives_the_same_gradients_again(reduction):
    given = inputs(True)
    loss = wn.linear_cross_entropy(**given, reduction=reduction).sum() * 3
    first = torch.autograd.grad(loss, leaves(given), retain_graph=True)
    first = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(loss, leaves(given))
    torch.testing.assert_close(list(second), first)


def test_gradients_accumulate_over_steps():
    given = inputs(False)
    for _ in range(2):
        wn.linear_cross_entropy(**given).backward()
    (want,) = torch.autograd.grad(2 * slow(**given)[0], given["linear_weight"])
    torch.testing.assert_close(given["linear_weight"].grad, want)


def test_a_second_derivative_is_refused():
    given = inputs(False)
    (first,) = torch.autograd.grad(
        wn.linear_cross_entropy(**given), given["input"], create_graph=True
    )
    with pytest.raises(WideneckError, match="no second derivative"):
        first.sum().backward()


def test_other_second_derivatives_in_the_same_graph_are_not():
    given = inputs(False)
    x = torch.randn(3, requires_grad=True)
    total = wn.linear_cross_entropy(**given) + x.pow(3).sum()
    (first,) = torch.autograd.grad(total, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, 6 * x.detach())


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_autocast_does_not_lower_the_precision(reduction):
    given = inputs(True, dtype=torch.float32)
    want = wn.linear_cross_entropy(**given, reduction=reduction)
    want_gradients = torch.autograd.grad(want.sum(), leaves(given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = wn.linear_cross_entropy(**given, reduction=reduction)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got.sum(), leaves(given)), want_gradients)


def test_dtypes_may_differ_as_they_do_under_autocast():
    given = inputs(False, dtype=torch.float32)
    low = given["input"].detach().bfloat16().requires_grad_()
    wn.linear_cross_entropy(**{**given, "input": low}).backward()
    assert low.grad.dtype == torch.bfloat16
    assert given["linear_weight"].grad.dtype == torch.float32


def test_inference_needs_no_gradients():
    given = inputs(True)
    with torch.inference_mode():
        loss = wn.linear_cross_entropy(**given)
    torch.testing.assert_close(loss, slow(**given)[0].detach())


@pytest.mark.parametrize("mode", ["in place", "keep", "in place, with sums"])
@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "gss", "relu", "plif"])
def test_the_compiled_pass_is_the_eager_one(kind, mode):
    with torch.no_grad():  # the operator gets tensors without a history
        _, _, form = affine(ACTIVATIONS[kind](), torch.zeros((), dtype=torch.float64))
    if mode == "in place, with sums" and form.num_sums == 0:
        return  # the pass of what has parameters
    z = torch.randn(6, 40, dtype=torch.float64)
    top = z.amax(-1, keepdim=True)
    with torch.no_grad():
        mine, want = z.clone(), z.clone()
        torch._dynamo.reset()
        fast = torch.compile(passes._weigh, backend="aot_eager", dynamic=True)
        got_total = fast(mine, form, top, mode)
        want_total = passes._weigh(want, form, top, mode)
    torch.testing.assert_close(got_total, want_total)
    torch.testing.assert_close(mine, want)


def test_a_failing_compiler_costs_one_warning_and_no_score(monkeypatch):
    def broken(z, form, top, mode):
        z.zero_()  # a failure half way
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiled, "_fast", lambda step, kind: broken)
    monkeypatch.setattr(compiled, "_works", {})
    z = torch.randn(5, 7)
    want = z.clone()
    want_total, _ = passes._weigh(want, Identity(), z.amax(-1, keepdim=True), "in place")
    with pytest.warns(UserWarning, match=r"torch\.compile failed \(RuntimeError\)"):
        total, _ = passes._weigh_compiled(z, Identity(), z.amax(-1, keepdim=True), "in place")
    # Warnings are errors here: what else fails is not told again.
    passes._weigh_compiled(torch.randn(5, 7).double(), Identity(), z[:, :1].double(), "keep")
    torch.testing.assert_close((z, total), (want, want_total))


def test_running_out_of_memory_is_no_failure_of_the_compiler(monkeypatch):
    def full(z, form, top, mode):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(compiled, "_fast", lambda step, kind: full)
    monkeypatch.setattr(compiled, "_works", {})
    with pytest.raises(torch.OutOfMemoryError):
        passes._weigh_compiled(torch.randn(5, 7), Identity(), torch.zeros(5, 1), "in place")
    assert not compiled._works


def test_training_goes_on_after_inference_mode():
    wn.functional.release_workspace()
    given = inputs(False)
    want = torch.autograd.grad(wn.linear_cross_entropy(**given), given["input"])[0]
    wn.functional.release_workspace()
    with torch.inference_mode():
        wn.linear_cross_entropy(**given)
    wn.linear_cross_entropy(**given).backward()
    torch.testing.assert_close(given["input"].grad, want)


def test_no_gradient_is_computed_where_none_is_recorded():
    given = inputs(False)
    with torch.no_grad(), torch.profiler.profile(acc_events=True) as seen:
        wn.linear_cross_entropy(**given)
    products = ("aten::mm", "aten::addmm", "aten::addmv")
    assert sum(event.count for event in seen.key_averages() if event.key in products) == 1


def test_float16_gradients_are_scaled_before_they_are_rounded():
    """A mean over many tokens is far below the smallest float16 until the loss scale is on it."""
    given = inputs(False, N=4096, dtype=torch.float32, D=4, V=9)
    low = {**given, "input": (given["input"].detach() / 64).half().requires_grad_()}
    high = {**given, "input": low["input"].detach().float().requires_grad_()}
    (wn.linear_cross_entropy(**low) * 2**16).backward()
    (slow(**high)[0] * 2**16).backward()
    want = high["input"].grad
    assert (low["input"].grad.float() - want).abs().max() <= 2**-10 * want.abs().max()


def test_a_transposed_weight_compiles_for_real():
    given = inputs(False, dtype=torch.float32)
    columns = given["linear_weight"].detach().T.contiguous().requires_grad_()

    def step(columns):
        return wn.linear_cross_entropy(**{**given, "linear_weight": columns.T}) * 2

    (want,) = torch.autograd.grad(step(columns), columns)
    torch._dynamo.reset()
    (got,) = torch.autograd.grad(torch.compile(step, backend="inductor")(columns), columns)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_that_the_forward_pass_formed_are_not_formed_again(monkeypatch, reduction):
    """Nor is the loss: a pass over the vocabulary each, but where they were handed on before."""
    passes, run = [], differentiable.run

    def counted(*arguments):
        passes.append(arguments)
        return run(*arguments)

    monkeypatch.setattr(differentiable, "run", counted)
    loss = 3 * wn.linear_cross_entropy(**inputs(True), activation="gss", reduction=reduction)
    assert len(passes) == 1
    loss.backward(retain_graph=True)
    assert len(passes) == 1
    loss.backward()
    assert len(passes) == 2
