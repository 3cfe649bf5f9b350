"""The fused loss and its gradients as an operator, opaque to `torch.compile`."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from wideneck.functional.affine import decode
from wideneck.functional.check import check_values
from wideneck.functional.distribution import widened
from wideneck.functional.fused import Wanted, fused_nll
from wideneck.functional.items import per_item
from wideneck.functional.options import LossOptions, Targets
from wideneck.functional.shard import WHOLE, Shard
from wideneck.functional.spread import Spread


def fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    ids: Tensor | None,
    probs: Tensor | None,
    class_weight: Tensor | None,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    reduction: str,
    whole: list[int],
    numbers: list[float],
    grad_loss: Tensor | None,
    grad_log_normalizer: Tensor | None,
    wanted: list[bool],
    shard: Shard = WHOLE,
) -> list[Tensor]:
    """[loss, log-normalizer, *wanted gradients], all in the dtype of the computation.

    A reduced loss has its gradient for 1.
    """
    options = LossOptions.decode(reduction, whole, numbers)
    vocab_size = weight.shape[0] if shard.is_whole else shard.vocab_size
    check_values(x, ids, options.ignore_index if probs is None else None, vocab_size)
    kept, factor = x.new_ones(len(x), dtype=torch.bool), None
    if probs is None:
        assert ids is not None
        kept = ids != options.ignore_index
        if class_weight is not None:
            factor = torch.where(kept, class_weight[torch.where(kept, ids, 0)], 0)
            factor = factor.to(widened(x, weight))
    # The mean is over the weights of the targets' classes; of the z-loss, over tokens.
    count = int(kept.sum()) if reduction == "mean" else 1
    items = count if factor is None or reduction != "mean" else factor.sum()
    target: Tensor | Spread
    if ids is not None and probs is None and not options.label_smoothing:
        target = ids
    else:
        targets = Targets(ids, probs, class_weight)
        target, factor = Spread(targets, options.label_smoothing, shard, vocab_size), None

    token: Tensor | float = per_item(1.0, items)
    square: Tensor | float = per_item(options.z_loss, count)
    if grad_loss is not None:
        token = grad_loss * token
        square = grad_loss * square if options.z_loss else 0.0
    elif grad_log_normalizer is not None:
        token = square = 0.0
    if factor is not None:
        token = token * factor
    with torch.autocast(x.device.type, enabled=False):
        result = fused_nll(
            x,
            weight,
            bias,
            log_prior,
            kept,
            target,
            decode(form, constants, parameters),
            chunk_size=options.chunk_size,
            wanted=Wanted(*wanted),
            weight=token.expand(len(x)) if isinstance(token, Tensor) else token,
            square_weight=square.expand(len(x)) if isinstance(square, Tensor) else square,
            normalizer_weight=grad_log_normalizer,
            shard=shard,
        )
    loss = result.nll if factor is None else result.nll * factor
    squares = options.z_loss * result.log_normalizer.square().mean(-1) if options.z_loss else None
    if reduction != "none":
        loss = per_item(loss.sum(), items)
        squares = None if squares is None else per_item(squares.sum(), count)
    if squares is not None:
        loss = loss + squares
    if not shard.is_whole:
        for part in (result.input, *result.parameters):
            if part is not None:
                shard.add_up(part)
    gradients = (result.input, result.weight, result.bias, result.log_prior, *result.parameters)
    return [loss, result.log_normalizer, *(g for g in gradients if g is not None)]


@torch.library.custom_op("wideneck::fused_loss", mutates_args=())
def fused_loss(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    ids: Tensor | None,
    probs: Tensor | None,
    class_weight: Tensor | None,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    reduction: str,
    whole: list[int],
    numbers: list[float],
    grad_loss: Tensor | None,
    grad_log_normalizer: Tensor | None,
    wanted: list[bool],
) -> list[Tensor]:
    """`fused` of one process, which a compiled graph calls and does not look into."""
    return fused(
        x,
        weight,
        bias,
        log_prior,
        ids,
        probs,
        class_weight,
        parameters,
        form,
        constants,
        reduction,
        whole,
        numbers,
        grad_loss,
        grad_log_normalizer,
        wanted,
    )


@fused_loss.register_fake
def _(x, weight, bias, log_prior, ids, probs, class_weight, parameters, *rest):
    reduction, wanted = rest[2], rest[7]
    dtype = widened(x, weight)
    loss = x.new_empty(len(x) if reduction == "none" else (), dtype=dtype)
    given = wanted_of((x, weight, bias, log_prior), parameters, wanted)
    gradients = [tensor.new_empty(tensor.shape, dtype=dtype) for tensor in given]
    return [loss, x.new_empty(x.shape[:2], dtype=dtype), *gradients]


def run_of(shard: Shard) -> Callable[..., list[Tensor]]:
    """The operator where a graph may be traced, the plain function where processes talk."""
    if not shard.is_whole:
        return partial(fused, shard=shard)
    return fused_loss if torch.compiler.is_compiling() else fused


def wanted_of(tensors: tuple, parameters: list[Tensor], wanted: list[bool]) -> list[Tensor]:
    """The tensors whose gradients are computed, in the order of those."""
    chosen = [tensor for tensor, want in zip(tensors, wanted, strict=False) if want]
    return chosen + (parameters if wanted[4] else [])
