"""The one pass over the scores, in blocks that fit the cache.

On a CPU the eager operations of a form, in place on a block of some 2**18 scores for each
thread, run from the cache and cost no compilation.  Elsewhere a block is the whole chunk and
the same function goes through `torch.compile`, which makes one kernel of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, final

import torch
from torch import Tensor

from wideneck.functional.compiled import compiled
from wideneck.functional.forms import Form
from wideneck.functional.shard import Shard

BLOCK = 2**18
"""Scores of a block for each thread: a MiB in float32, and the same for a temporary."""


def blocks(z: Tensor) -> tuple[Tensor, ...]:
    """The rows of z (R, V), some at a time."""
    if z.device.type != "cpu":
        return (z,)
    return z.split(max(1, BLOCK * torch.get_num_threads() // z.shape[1]))


def taken_out_(z: Tensor, at: Tensor, here: Tensor) -> Tensor:
    """(R,), the entry of z (R, V) at each row's `at` (R, 1), which becomes 0; 0 if not `here`."""
    own = z.gather(1, at)
    z.scatter_(1, at, torch.where(here.view(-1, 1).bool(), 0, own))
    return own.squeeze(1) * here


Mode = Literal["keep", "in place", "in place, with sums"]
"""z stays, becomes G f'(z), or does so while sums for the parameters' gradients are taken."""


def mode_for(form: Form, vocab_size: int, *, learning: bool) -> Mode:
    """What to do with the scores: they are needed once more where the sums would be too many."""
    if not learning:
        return "in place"
    return "in place, with sums" if 0 < form.num_sums <= vocab_size // 2 else "keep"


@final
@dataclass(frozen=True)
class Sums:
    """What a pass leaves besides the changed scores, by row."""

    top: Tensor
    """(R, 1), the largest score."""
    total: Tensor
    """(R,), sums of G, or of k G."""
    weighted: Tensor
    """(R, P), sums of G df/dtheta for the mode that asks for them, over this process's part alone;
    else the totals again."""
    scaled: Tensor | None
    """(R,), whether a row has the factor k of `Form.log_scale`; None where no row has."""


def weigh_(z: Tensor, form: Form, shard: Shard, mode: Mode) -> Sums:
    """Forms G = exp(f(z) - f(top)), in place unless `mode` is "keep", and sums it."""
    if z.device.type == "cpu":
        exp_from_one_thread()
    step: Callable = _weigh if z.device.type == "cpu" else _weigh_compiled
    parts = blocks(z)
    tops, sums, scaled = [], [], []
    if shard.is_whole:
        fast = z.device.type == "cpu" and mode == "in place"
        # Not made for every block: the system would clear its pages every time.
        spare = torch.empty_like(parts[0]) if fast else z
        for block in parts:  # the maximum brings the block into the cache
            top = block.amax(-1, keepdim=True)
            total = form.weigh_scaled_(block, top, spare[: len(block)]) if fast else None
            scaled.append(total is not None)
            tops.append(top)
            sums.append(step(block, form, top, mode) if total is None else (total, total))
        top = torch.cat(tops)
    else:
        top = shard.max(z.amax(-1, keepdim=True))
        tops = top.split([len(block) for block in parts])
        sums = [step(block, form, t, mode) for block, t in zip(parts, tops, strict=True)]
    total, weighted = (torch.cat(parts) for parts in zip(*sums, strict=True))
    total = total.squeeze(1)
    if not any(scaled):
        return Sums(top, total, weighted, None)
    lengths = torch.tensor([len(block) for block in parts])
    return Sums(top, total, weighted, torch.tensor(scaled).repeat_interleave(lengths))


@cache
def exp_from_one_thread() -> None:
    """Once a process, so that no two threads are the first to ask for an exponential.

    Seen with torch 2.13 on a CPU: in some processes the first parallel float32 `exp` has one
    thread's share wrong by 1e-4, and every later one is right.
    """
    torch.zeros(64).exp_()


def _weigh(z: Tensor, form: Form, top: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    if mode == "in place, with sums":
        return form.weigh_with_sums_(z, top)
    if mode == "in place":
        total = form.weigh_(z, top)
    else:
        total = (form.log_score(z) - form.log_score(top)).exp_().sum(-1, keepdim=True)
    return total, total


def _weigh_compiled(z: Tensor, form: Form, top: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    kind = (type(form.activation), mode, z.dtype, z.device.type)
    return compiled(_weigh, kind, (z, form, top, mode))
