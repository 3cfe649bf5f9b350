"""Passes through `torch.compile`: one kernel of each kind, however many kinds there are."""

from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from functional.fused_examples import ACTIVATIONS
from wideneck.functional import compiled
from wideneck.functional.affine import affine
from wideneck.functional.apart import weigh_apart
from wideneck.functional.passes import _weigh_compiled


@pytest.fixture
def kernels(monkeypatch):
    """Counts what the tracer hands to a compiler that compiles nothing."""
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    monkeypatch.setattr(compiled, "_works", {})
    compiled._fast.cache_clear()
    torch._dynamo.reset()
    yield counter
    compiled._fast.cache_clear()
    torch._dynamo.reset()


def _rows(number: int, V: int, form) -> tuple:
    """Arguments as a chunk has them: scores and G are views of a workspace."""
    space = torch.randn(2 * number * V + 5)
    z = space[: number * V].view(-1, V)
    room = torch.empty_like(space, dtype=torch.bfloat16)[: z.numel()].view_as(z)
    column = torch.arange(number)[:, None]
    return z, form, z.gather(1, column), column, room, bool(form.num_sums), None, None


@torch.no_grad()
def test_each_kind_of_pass_is_one_kernel_and_none_is_refused(kernels):
    """A kernel for a view does not take what is none, and the tracer stops at a limit, here two."""
    kinds = ("softmax", "sigsoftmax", "gss")
    with torch._dynamo.config.patch(recompile_limit=2):
        for kind in kinds:
            _, _, form = affine(ACTIVATIONS[kind](), torch.zeros(()))
            for number, V in ((6, 40), (9, 55)):
                given = _rows(number, V, form)
                found = compiled.compiled(weigh_apart, (kind,), given)
                torch.testing.assert_close(found, weigh_apart(*given))
    assert kernels.frame_count == len(kinds)


@torch.no_grad()
def test_the_pass_at_the_top_is_one_kernel_too(kernels):
    _, _, form = affine(ACTIVATIONS["sigsoftmax"](), torch.zeros(()))
    for number in (6, 9):
        z = _rows(number, 40, form)[0]
        _weigh_compiled(z, form, z.amax(-1, keepdim=True), "in place")
    assert kernels.frame_count == 1


@torch.no_grad()
def test_without_sums_nothing_is_left_of_the_vocabularys_size():
    """A slice of no column would have a kernel write all exponentials in float32."""
    _, _, form = affine(ACTIVATIONS["softmax"](), torch.zeros(()))
    given = _rows(6, 40, form)
    assert weigh_apart(*given)[1].untyped_storage().nbytes() == 0
