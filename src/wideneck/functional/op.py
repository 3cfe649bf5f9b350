"""The fused loss and its gradients as an operator, opaque to `torch.compile`."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wideneck.functional.affine import decode
from wideneck.functional.autocast import without_autocast
from wideneck.functional.check import look
from wideneck.functional.distribution import widened
from wideneck.functional.fused import fused_nll
from wideneck.functional.items import per_item
from wideneck.functional.kept import may_wait
from wideneck.functional.options import NOTHING, Layer, LossOptions, Targets, Wanted
from wideneck.functional.shard import WHOLE, Shard
from wideneck.functional.spread import Spread

FIXED = 8
"""Tensors of the loss in front of the activation's parameters: X (N, K, D), W (V, D), b (V,),
log_prior (N, K), the scale (), and the ids, probabilities and class weights of `Targets`."""

LAYER = "Tensor x, Tensor weight, Tensor? bias, Tensor? log_prior, Tensor? scale"
ENCODED = (
    "Tensor[] parameters, str form, float[] constants, str reduction, SymInt ignore_index, "
    "float z_loss, float label_smoothing, SymInt? chunk_size, bool narrow"
)
"""In the signatures of operators: `Layer`, and what follows its tensors, from `Asked.encode`."""

Up = tuple[Tensor | None, Tensor | None]
"""Gradients of the loss and of the log-normalizer."""


@dataclass(frozen=True)
class Asked:
    """What is asked for beside tensors; one argument, which no transform looks into."""

    form: tuple[str, list[float]]
    options: LossOptions
    shard: Shard = WHOLE
    wanted: Wanted = NOTHING
    learning: bool = True
    """The caller's grad mode, which an autograd function cannot see."""

    def encode(self) -> tuple:
        """Form and options as `ENCODED` has them; `decoded` reads them."""
        o = self.options
        numbers = o.ignore_index, float(o.z_loss), float(o.label_smoothing), o.chunk_size, o.narrow
        return (*self.form, o.reduction, *numbers)

    @property
    def runs_operators(self) -> bool:
        """Where a graph may be traced; none goes where processes talk."""
        return self.shard.is_whole and torch.compiler.is_compiling()


def run(asked: Asked, tensors: tuple, up: Up = (None, None)) -> list[Tensor]:
    """`fused`, as an operator where it may run as one."""
    if not asked.runs_operators:
        return fused(asked, tensors, up)
    given, parameters = tensors[:FIXED], list(tensors[FIXED:])
    return fused_loss(*given, parameters, *asked.encode(), *up, list(asked.wanted))


def fused(asked: Asked, tensors: tuple, up: Up = (None, None)) -> list[Tensor]:
    """[loss, log-normalizer, *wanted gradients], all in the dtype of the computation.

    A reduced loss has its gradient for 1.
    """
    options, shard = asked.options, asked.shard
    x, weight, bias, log_prior, scale, ids, probs, class_weight = tensors[:FIXED]
    grad_loss, grad_log_normalizer = up
    form = decode(*asked.form, list(tensors[FIXED:]))
    layer = Layer(x, weight, bias, log_prior, scale, form, shard)
    dtype = widened(x, weight)
    mask = None if probs is not None or ids is None else ids != options.ignore_index
    kept, factor = look(x, ids, mask, layer.vocab_size, options.ignore_index), None
    # Where nobody may look which they are, ignored tokens are computed and weigh 0.
    blank = mask if kept.all and not may_wait(x.device) else None
    if mask is not None and blank is not None:
        ids, x = torch.where(mask, ids, 0), torch.where(mask[:, None, None], x, 0)
        layer = replace(layer, X=x)  # 0 times a NaN of padding would be one
    if mask is not None and class_weight is not None:
        factor = torch.where(mask, class_weight[torch.where(mask, ids, 0)], 0).to(dtype)
    # The mean is over the weights of the targets' classes; of the z-loss, over tokens.
    mean = options.reduction == "mean"
    count: int | Tensor = 1
    if mean:
        count = kept.number if blank is None else blank.sum()
    items = count if factor is None or not mean else factor.sum()
    target: Tensor | Spread
    if ids is not None and probs is None and not options.label_smoothing:
        target = ids
    else:
        targets = Targets(ids, probs, class_weight)
        target, factor = Spread(targets, options.label_smoothing, shard, layer.vocab_size), None

    token: Tensor | float = per_item(1.0, items)
    square: Tensor | float = per_item(options.z_loss, count)
    if grad_loss is not None:
        token = grad_loss * token
        square = grad_loss * square if options.z_loss else 0.0
    elif grad_log_normalizer is not None:
        token = square = 0.0
    if blank is not None:
        factor = blank.to(dtype) if factor is None else factor
        square = square * blank
        if grad_log_normalizer is not None:
            grad_log_normalizer = grad_log_normalizer * blank[:, None]
    if factor is not None:
        token = token * factor
    with without_autocast(x.device.type):
        nll, log_normalizer, gradients = fused_nll(
            layer,
            kept,
            target,
            chunk_size=options.chunk_size,
            wanted=asked.wanted,
            weight=token.expand(len(x)) if isinstance(token, Tensor) else token,
            square_weight=square.expand(len(x)) if isinstance(square, Tensor) else square,
            normalizer_weight=grad_log_normalizer,
            narrow=options.narrow,
        )
    if blank is not None:
        log_normalizer = log_normalizer * blank[:, None]
    loss = nll if factor is None else nll * factor
    squares = options.z_loss * log_normalizer.square().mean(-1) if options.z_loss else None
    if options.reduction != "none":
        loss = per_item(loss.sum(), items)
        squares = None if squares is None else per_item(squares.sum(), count)
    if squares is not None:
        loss = loss + squares
    return [loss, log_normalizer, *shard.whole_gradients(gradients)]


def decoded(given: tuple, fixed: int) -> tuple[tuple, tuple[str, list[float]], LossOptions, tuple]:
    """Tensors, form, options and the rest of an operator with `fixed` tensors before `ENCODED`."""
    parameters, form, constants, *options = given[fixed : fixed + 9]
    tensors = (*given[:fixed], *parameters)
    return tensors, (form, constants), LossOptions(*options), given[fixed + 9 :]


@torch.library.custom_op(
    "wideneck::fused_loss",
    mutates_args=(),
    schema=f"({LAYER}, Tensor? ids, Tensor? probs, Tensor? class_weight, {ENCODED}, "
    "Tensor? grad_loss, Tensor? grad_log_normalizer, bool[] wanted) -> Tensor[]",
)
def fused_loss(*given: Any) -> list[Tensor]:
    """`fused` of one process, which a compiled graph calls and does not look into."""
    tensors, form, options, (*up, wanted) = decoded(given, FIXED)
    return fused(Asked(form, options, wanted=Wanted(*wanted)), tensors, tuple(up))


@fused_loss.register_fake
def _(x, weight, *rest):
    parameters, reduction, wanted = rest[6], rest[9], Wanted(*rest[-1])
    dtype = widened(x, weight)
    loss = x.new_empty(len(x) if reduction == "none" else (), dtype=dtype)
    given = wanted.of((x, weight, *rest[:3], *parameters), 5)
    gradients = [tensor.new_empty(tensor.shape, dtype=dtype) for tensor in given]
    return [loss, x.new_empty(x.shape[:2], dtype=dtype), *gradients]
