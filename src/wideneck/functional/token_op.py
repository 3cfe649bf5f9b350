"""Token outputs as an operator: opaque to `torch.compile`, once differentiable.

What the values leave of every row (its largest score, its normalizer) is kept for the backward
pass, which computes the scores again and needs no second look at them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.functional.affine import decode
from wideneck.functional.check import check_temperature, check_values
from wideneck.functional.differentiable import Last, placed
from wideneck.functional.distribution import widened
from wideneck.functional.forms import Form
from wideneck.functional.op import run_of, wanted_of
from wideneck.functional.options import LossOptions
from wideneck.functional.scores import Gradients, Scores
from wideneck.functional.shard import WHOLE, Shard
from wideneck.functional.token_block import Block
from wideneck.functional.token_gradient import Incoming, to_gradient_
from wideneck.functional.token_pass import Wants, values
from wideneck.functional.transforms import NO_FORWARD_MODE, refuse_batched

OUTPUTS = ("log_prob", "entropy", "log_sum_sq_prob", "mean_log_prob", "top1")
DIFFERENTIABLE = ("log_prob", "entropy")
FIXED = 13
"""Arguments of the function in front of the activation's parameters."""
NUM_KEPT = 4


class TokenValues(torch.autograd.Function):
    """The outputs that are asked for, (N,) each, of X (N, K, D), W (V, D), b (V,) and log_prior.

    `learning` is the caller's grad mode, as in `FusedLoss`.
    """

    @staticmethod
    def forward(  # pyrefly: ignore[bad-override]
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        log_prior: Tensor | None,
        target: Tensor,
        temperature: Tensor | None,
        number: float,
        form: tuple[str, list[float]],
        outputs: tuple[str, ...],
        ignore_index: int,
        chunk_size: int | None,
        shard: Shard,
        learning: bool,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        """The values."""
        needs = ctx.needs_input_grad if learning else [False] * (FIXED + len(parameters))
        ctx.wanted = [*needs[:4], any(needs[FIXED:])]
        ctx.outputs, ctx.shard, ctx.count = outputs, shard, len(parameters)
        ctx.rest = (*form, number, ignore_index, chunk_size or 0)
        tensors = (x, weight, bias, log_prior, target, temperature, list(parameters))
        found = _operator(shard, token_values, _values)(*tensors, *ctx.rest, ",".join(outputs))
        told, kept = found[: len(outputs)], found[len(outputs) :]
        entropy = told[outputs.index("entropy")] if "entropy" in outputs else None
        ctx.save_for_backward(
            x, weight, bias, log_prior, target, temperature, entropy, *kept, *parameters
        )
        without = [t for t, name in zip(told, outputs, strict=True) if name not in DIFFERENTIABLE]
        ctx.mark_non_differentiable(*without)
        ctx.set_materialize_grads(False)
        return tuple(told)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):  # pyrefly: ignore[bad-override]
        """Those of the log-probabilities and the entropies."""
        given = dict(zip(ctx.outputs, gradients, strict=True))
        g, h = given.get("log_prob"), given.get("entropy")
        if g is None and h is None:
            return (None,) * (FIXED + ctx.count)
        refuse_batched(g, h)
        x, weight, bias, log_prior, target, temperature, entropy, *others = ctx.saved_tensors
        kept, parameters = others[:NUM_KEPT], others[NUM_KEPT:]
        form, constants, number, ignore_index, chunk_size = ctx.rest
        if h is None and temperature is None and number == 1:  # the loss, which has faster ways
            options = LossOptions("none", ignore_index, chunk_size=chunk_size or None)
            tensors = (x, weight, bias, log_prior, target, None, None, parameters)
            assert g is not None
            rest = (form, constants, *options.encode(), -g, None, ctx.wanted)
            _, _, *ready = run_of(ctx.shard)(*tensors, *rest)
        else:
            tensors = (x, weight, bias, log_prior, target, temperature, parameters)
            come = (g, h, entropy, kept, ctx.wanted)
            ready = _operator(ctx.shard, token_gradients, _gradients)(*tensors, *ctx.rest, *come)
        like = wanted_of((x, weight, bias, log_prior), parameters, ctx.wanted)
        ready = [gradient.to(one.dtype) for gradient, one in zip(ready, like, strict=True)]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            ready = Last.apply(ready, *ctx.saved_tensors, g, h)
        return placed(ctx, list(ready), FIXED)


class _EagerValues(TokenValues):
    """`TokenValues` where no graph is traced, as `_EagerLoss`."""

    @staticmethod
    def jvp(ctx: Any, *_: Tensor):  # pyrefly: ignore[bad-override]
        """Refuses."""
        raise WideneckError(NO_FORWARD_MODE)


def values_function(shard: Shard) -> Callable[..., tuple[Tensor, ...]]:
    """What computes the values, as `loss_function`."""
    if not torch.compiler.is_compiling():
        return _EagerValues.apply
    return TokenValues.apply if shard.is_whole else torch.compiler.disable(_EagerValues.apply)


@torch.no_grad()
def _values(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    target: Tensor,
    temperature: Tensor | None,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    number: float,
    ignore_index: int,
    chunk_size: int,
    outputs: str,
    shard: Shard = WHOLE,
) -> list[Tensor]:
    """[*outputs, top (N, K), log_total (N, K), normalizer (N,), share (N, K)].

    The outputs are named with commas between them: an operator takes no list of names.
    """
    vocab_size = weight.shape[0] if shard.is_whole else shard.vocab_size
    check_values(x, target, ignore_index, vocab_size)
    check_temperature(temperature, target != ignore_index)
    asked = outputs.split(",")
    wants = Wants(*(name in asked for name in OUTPUTS[1:]))
    small = wants.mean_log_prob or _is_above_one(temperature, number)
    with torch.autocast(x.device.type, enabled=False):
        scores = Scores(x, weight, bias, target != ignore_index, shard, chunk_size or None)
        found = _empty(x, scores.dtype, outputs)
        names = [*asked, "top", "log_total", "normalizer", "share"]
        decoded = decode(form, constants, parameters)
        for n, _, z in scores:
            chunk = _block(n, z, target, temperature, number, log_prior, decoded, shard, small)
            told = values(chunk, wants)
            for name, all_ in zip(names, found, strict=True):
                all_[n] = getattr(told, name).to(all_.dtype)
    return found


def _empty(x: Tensor, dtype: torch.dtype, outputs: str) -> list[Tensor]:
    """What `_values` gives where every target is ignored."""
    N, K, _ = x.shape
    told = [
        x.new_zeros(N, dtype=torch.bool if name == "top1" else dtype) for name in outputs.split(",")
    ]
    by_component = [x.new_zeros(N, K, dtype=dtype) for _ in range(3)]
    top, log_total, share = by_component
    return [*told, top, log_total, x.new_zeros(N, dtype=dtype), share]


@torch.no_grad()
def _gradients(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    target: Tensor,
    temperature: Tensor | None,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    number: float,
    ignore_index: int,
    chunk_size: int,
    g: Tensor | None,
    h: Tensor | None,
    entropy: Tensor | None,
    kept: list[Tensor],
    wanted: list[bool],
    shard: Shard = WHOLE,
) -> list[Tensor]:
    """The wanted gradients of sum_n (g_n log-probability_n + h_n entropy_n)."""
    small = _is_above_one(temperature, number)
    with torch.autocast(x.device.type, enabled=False):
        scores = Scores(x, weight, bias, target != ignore_index, shard, chunk_size or None)
        dtype = scores.dtype
        sums = Gradients(scores, input=wanted[0], weight=wanted[1], bias=wanted[2])
        prior = x.new_zeros(x.shape[:2], dtype=dtype) if wanted[3] else None
        own = [torch.zeros_like(p) for p in parameters] if wanted[4] else []
        zero = x.new_zeros(len(target), dtype=dtype)
        g = zero if g is None else g.to(dtype)
        H = zero if entropy is None else entropy
        rows = [g, zero if h is None else h.to(dtype), H, *kept]
        decoded = decode(form, constants, parameters)
        for n, x_n, z in scores:
            chunk = _block(n, z, target, temperature, number, log_prior, decoded, shard, small)
            g_n, h_n, *rest = (row[n] for row in rows)
            given = Incoming(g_n, None if h is None else h_n, *rest)
            a, by_prior = to_gradient_(chunk, given, own)
            sums.add(n, x_n, z, a)
            if prior is not None and by_prior is not None:
                prior[n] = by_prior
        sums.finish()
    if not shard.is_whole:
        for part in (sums.input, *own):
            if part is not None:
                shard.add_up(part)
    found = (sums.input, sums.weight, sums.bias, prior, *own)
    return [gradient for gradient in found if gradient is not None]


def _block(
    n: slice | Tensor,
    z: Tensor,
    target: Tensor,
    temperature: Tensor | None,
    number: float,
    log_prior: Tensor | None,
    form: Form,
    shard: Shard,
    small: bool,
) -> Block:
    """The scores of a chunk, and what is known of its tokens."""
    T = number if temperature is None else temperature[n].to(z.dtype)[:, None]
    prior = None if log_prior is None else log_prior[n].to(z.dtype)
    return Block(z, target[n], T, prior, form, shard, small)


def _is_above_one(temperature: Tensor | None, number: float) -> bool:
    return number > 1 if temperature is None else bool((temperature > 1).any())


@torch.library.custom_op("wideneck::token_values", mutates_args=())
def token_values(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    target: Tensor,
    temperature: Tensor | None,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    number: float,
    ignore_index: int,
    chunk_size: int,
    outputs: str,
) -> list[Tensor]:
    """`_values` of one process, which a compiled graph calls and does not look into."""
    tensors = (x, weight, bias, log_prior, target, temperature, parameters)
    return _values(*tensors, form, constants, number, ignore_index, chunk_size, outputs)


@token_values.register_fake
def _(x, weight, *rest):
    return _empty(x, widened(x, weight), rest[-1])


@torch.library.custom_op("wideneck::token_gradients", mutates_args=())
def token_gradients(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    target: Tensor,
    temperature: Tensor | None,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    number: float,
    ignore_index: int,
    chunk_size: int,
    g: Tensor | None,
    h: Tensor | None,
    entropy: Tensor | None,
    kept: list[Tensor],
    wanted: list[bool],
) -> list[Tensor]:
    """`_gradients` of one process, likewise."""
    tensors = (x, weight, bias, log_prior, target, temperature, parameters)
    rest = (form, constants, number, ignore_index, chunk_size)
    return _gradients(*tensors, *rest, g, h, entropy, kept, wanted)


@token_gradients.register_fake
def _(x, weight, bias, log_prior, target, temperature, parameters, *rest):
    given = wanted_of((x, weight, bias, log_prior), parameters, rest[-1])
    dtype = widened(x, weight)
    return [tensor.new_empty(tensor.shape, dtype=dtype) for tensor in given]


def _operator(shard: Shard, operator: Any, plain: Callable) -> Callable[..., list[Tensor]]:
    """The operator where a graph may be traced, the plain function where processes talk."""
    if not shard.is_whole:
        return partial(plain, shard=shard)
    return operator if torch.compiler.is_compiling() else plain
