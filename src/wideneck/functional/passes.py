"""The one pass over the scores, in blocks that fit the cache.

On a CPU the eager operations of a form, in place on a block of some 2**17 scores for each
thread, run from the cache and cost no compilation.  Elsewhere a block is the whole chunk and
the same function goes through `torch.compile`, which makes one kernel of it.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from wideneck.functional.forms import Form
from wideneck.functional.shard import Shard

BLOCK = 2**17
"""Scores of a block for each thread: half a MiB in float32, and the same for a temporary."""


def blocks(z: Tensor) -> tuple[Tensor, ...]:
    """The rows of z (R, V), some at a time."""
    if z.device.type != "cpu":
        return (z,)
    return z.split(max(1, BLOCK * torch.get_num_threads() // z.shape[1]))


def weigh_(z: Tensor, form: Form, shard: Shard, *, in_place: bool) -> tuple[Tensor, Tensor]:
    """Largest scores (R, 1) and sums of exp(f(z) - f(top)) (R,); in place, z becomes G f'(z)."""
    step: Callable = _weigh if z.device.type == "cpu" else compiled(_weigh)
    parts = blocks(z)
    if shard.is_whole:
        tops, totals = [], []
        for block in parts:  # the maximum brings the block into the cache
            top = block.amax(-1, keepdim=True)
            tops.append(top)
            totals.append(step(block, form, top, in_place))
        return torch.cat(tops), torch.cat(totals).squeeze(1)
    top = shard.max(z.amax(-1, keepdim=True))
    tops = top.split([len(block) for block in parts])
    totals = [step(block, form, t, in_place) for block, t in zip(parts, tops, strict=True)]
    return top, torch.cat(totals).squeeze(1)


def _weigh(z: Tensor, form: Form, top: Tensor, in_place: bool) -> Tensor:
    if in_place:
        return form.weigh_(z, top)
    return (form.log_score(z) - form.log_score(top)).exp_().sum(-1, keepdim=True)


@cache
def compiled(function: Callable) -> Callable:
    """`function` through `torch.compile`; as it is, after one warning, where that fails."""
    fast: Callable | None = torch.compile(function, dynamic=True)

    def call(*args):
        nonlocal fast
        if fast is not None:
            try:
                return fast(*args)
            except Exception as error:  # no compiler, an unsupported device, a bug of its own
                fast = None
                warnings.warn(
                    f"wideneck: torch.compile failed ({type(error).__name__}); the output layer "
                    "runs without it, more slowly and with the same results.",
                    stacklevel=2,
                )
        return function(*args)

    return call
