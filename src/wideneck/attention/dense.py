"""Attention that forms its scores: a block at a time, and again in the backward pass.

The rows of a query are independent of all others, so a block of them is exact by itself.  What is
kept for the backward pass is query, key and value; it forms each block once more.  A block leaves
out the keys that none of its queries sees, such as the later half of a causal layer's: less work
than forming all scores once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.attention.call import (
    Call,
    dense_scores,
    mixed_values,
    num_visible,
    visible_keys,
)
from wideneck.attention.normalizer import Normalizer
from wideneck.functional.autocast import without_autocast
from wideneck.functional.numbers import may_look

BLOCK = {"cpu": 2**20}
"""Scores that are formed at a time: on a CPU as many as stay in its cache."""
ELSEWHERE = 2**26
KEPT = 2**22
"""Scores up to which the weights of a call are kept for the backward pass."""
ROWS = 64
"""Queries of a head that a block has at least: products of fewer take longer."""


def all_weights(call: Call, config: Normalizer) -> Tensor:
    """Weights (B, H, Q, K); beside a sink of the model's own (B, H, Q, 1 + K), the sink's first.

    The sink is the oldest key then, visible to every query; n counts the others.
    """
    scores, visible = dense_scores(call), visible_keys(call)
    if call.sink is None:
        return config.weights(scores, visible)
    column = call.sink.to(scores.dtype).expand(*scores.shape[:3], 1)
    if visible is not None:
        visible = F.pad(visible, (1, 0), value=True)
    return config.weights(torch.cat([column, scores], -1), visible, num_visible(call))


def weights_of(call: Call, config: Normalizer) -> Tensor:
    """Weights of the keys alone, (B, H, Q, K) in at least float32."""
    weights = all_weights(call, config)
    return weights if call.sink is None else weights[..., 1:]


def formed_attention(call: Call, config: Normalizer) -> tuple[Tensor, Tensor]:
    """(B, H, Q, Dv) and weights (B, H, Q, K), all at once."""
    weights = F.dropout(weights_of(call, config).to(call.value.dtype), call.dropout)
    return mixed_values(weights, call), weights


def dense_attention(call: Call, config: Normalizer) -> Tensor:
    """(B, H, Q, Dv), exact and differentiable to any order.

    Cost: that of the scores, twice with a backward pass.  Memory: a block of scores, some five
    times over, beside inputs, output and their gradients.  In compiled graphs and under
    `torch.func` all scores are formed at once.
    """
    named = {name: getattr(call, name) for name in OF_CALL}
    named |= {field.name: getattr(config, field.name) for field in fields(config)}
    tensors = {name: x for name, x in named.items() if isinstance(x, Tensor)}
    blocks = [] if _is_traced(tensors.values()) else _blocks(call)
    if not blocks:
        return formed_attention(call, config)[0]
    seed = int(torch.randint(2**62, (), device="cpu")) if call.dropout else 0
    plan = _Plan(call.mask, call.causal, call.scaling, call.softcap, call.dropout, seed, config)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors.values()):
        return _Recomputed.apply(plan, blocks, tuple(tensors), *tensors.values())  # pyrefly: ignore
    return plan.output(blocks, tensors)


OF_CALL = ("query", "key", "value", "sink")
"""What of a call may want a gradient."""


def _is_traced(tensors: Iterable[Tensor]) -> bool:
    if torch.compiler.is_compiling():
        return True
    return any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in tensors)


@dataclass(frozen=True)
class _Block:
    """Heads of some sequences, some of their queries, and the keys that these may see."""

    sequences: slice
    groups: slice
    """Of key and value."""
    heads: slice
    queries: slice
    keys: slice

    def of(self, name: str, x: Tensor) -> Tensor:
        """The part of key or value, or of what broadcasts to (B, H, Q, *)."""
        if name in ("key", "value"):
            return x[self.sequences, self.groups, self.keys]
        index = [slice(None)] * x.ndim
        for dim, part in ((-4, self.sequences), (-3, self.heads), (-2, self.queries)):
            if x.ndim >= -dim and x.shape[dim] > 1:
                index[dim] = part
        return x[tuple(index)]


def _blocks(call: Call) -> list[_Block]:
    """Every query of every head in one of them; none where all weights may be kept."""
    (batch, heads, length, _), num_keys = call.query.shape, call.key.shape[2]
    limit = BLOCK.get(call.query.device.type, ELSEWHERE)
    whole = heads * length * num_keys
    if batch * whole <= KEPT:
        return []
    sequences = max(1, limit // whole)
    rows = min(length, max(ROWS, limit // (heads * num_keys)))
    groups = min(call.key.shape[1], max(1, limit // (call.groups * rows * num_keys)))
    found = []
    for i in _slices(batch, sequences):
        for queries in _slices(length, rows):
            keys = _seen_keys(call, i, queries)
            for group in _slices(call.key.shape[1], groups):
                of_group = slice(group.start * call.groups, group.stop * call.groups)
                found.append(_Block(i, group, of_group, queries, keys))
    return found


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _seen_keys(call: Call, sequences: slice, queries: slice) -> slice:
    """From the first key that one of the queries sees to the last; all where looking would wait."""
    if call.causal:
        return slice(0, queries.stop)
    every = slice(0, call.key.shape[2])
    if call.mask is None or not may_look(call.mask):
        return every
    of_all = slice(None) if len(call.mask) == 1 else sequences
    seen = call.mask[of_all, :, queries].flatten(0, 2).any(0).nonzero()
    return slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 1)


@dataclass(frozen=True)
class _Plan:
    """A call without its tensors, and how they go together."""

    mask: Tensor | None
    causal: bool
    scaling: float
    softcap: float | None
    dropout: float
    seed: int
    """Of dropout, which has to drop the same weights again in the backward pass."""
    config: Normalizer

    def attend(self, block: _Block, number: int, parts: dict[str, Tensor]) -> Tensor:
        """Output of a block, from its part of every tensor."""
        mask = self.mask
        if self.causal:
            shape = (block.queries.stop - block.queries.start, block.keys.stop)
            mask = torch.ones(shape, dtype=torch.bool, device=parts["query"].device)
            mask = mask.tril_(block.queries.start)[None, None]
        elif mask is not None:
            mask = block.of("mask", mask)[..., block.keys]
        call = Call(
            query=parts["query"],
            key=parts["key"],
            value=parts["value"],
            sink=parts.get("sink"),
            mask=mask,
            causal=False,
            scaling=self.scaling,
            softcap=self.softcap,
            dropout=0.0,
        )
        numbers = {name: x for name, x in parts.items() if name not in OF_CALL}
        weights = weights_of(call, replace(self.config, **numbers)).to(call.value.dtype)
        if self.dropout:
            generator = torch.Generator(weights.device).manual_seed(self.seed + number)
            kept = torch.rand(weights.shape, generator=generator, device=weights.device)
            weights = weights * (kept >= self.dropout) / (1 - self.dropout or 1)
        return mixed_values(weights, call)

    def output(self, blocks: list[_Block], tensors: dict[str, Tensor]) -> Tensor:
        """(B, H, Q, Dv), in memory as models want it: (B, Q, H, Dv)."""
        query, value = tensors["query"], tensors["value"]
        batch, heads, length, _ = query.shape
        out = value.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        for number, block in enumerate(blocks):
            parts = {name: block.of(name, x) for name, x in tensors.items()}
            out[block.sequences, block.heads, block.queries] = self.attend(block, number, parts)
        return out

    def gradients(
        self, blocks: list[_Block], tensors: dict[str, Tensor], wanted: list[str], grad: Tensor
    ) -> dict[str, Tensor]:
        """Of the wanted tensors, summed over blocks in at least float32."""
        sums = {
            name: torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
            for name, x in tensors.items()
            if name in wanted
        }
        for number, block in enumerate(blocks):
            parts = {
                name: block.of(name, x).detach().requires_grad_(name in wanted)
                for name, x in tensors.items()
            }
            with torch.enable_grad():
                out = self.attend(block, number, parts)
            leaves = [parts[name] for name in sums]
            found = torch.autograd.grad(out, leaves, block.of("grad", grad), allow_unused=True)
            for (name, total), part in zip(sums.items(), found, strict=True):
                if part is not None:
                    block.of(name, total).add_(part)
        return {name: total.to(tensors[name].dtype) for name, total in sums.items()}


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, blocks: list[_Block], names: tuple, *given: Tensor) -> Any:
        ctx.save_for_backward(*given)
        ctx.plan, ctx.blocks, ctx.names = plan, blocks, names
        return plan.output(blocks, dict(zip(names, given, strict=True)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyrefly: ignore[bad-override]
        tensors = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        needed = zip(ctx.names, ctx.needs_input_grad[3:], strict=True)
        wanted = [name for name, need in needed if need]
        with without_autocast(grad.device.type):  # which may be on by now
            if torch.is_grad_enabled():  # somebody wants to differentiate again
                # Each by a view of its own: of two that are the same tensor, or one made of the
                # other, as values of keys are, either would get the derivative by both.
                views = {name: x.view_as(x) for name, x in tensors.items()}
                out = ctx.plan.output(ctx.blocks, views)
                inputs = [views[name] for name in wanted]
                again = torch.autograd.grad(out, inputs, grad, create_graph=True, allow_unused=True)
                found = dict(zip(wanted, again, strict=True))
            else:
                found = ctx.plan.gradients(ctx.blocks, tensors, wanted, grad)
        return None, None, None, *(found.get(name) for name in ctx.names)
