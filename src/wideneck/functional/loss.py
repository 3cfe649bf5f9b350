"""`linear_cross_entropy`: the fused loss as PyTorch sees it, checked, differentiable, compilable.

Arguments have the names and the order of `torch.nn.functional.linear_cross_entropy`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from wideneck.config import Activation, activation_config
from wideneck.errors import WideneckError
from wideneck.functional.affine import affine, encode, is_number
from wideneck.functional.check import check_reduction, check_shapes, check_targets
from wideneck.functional.differentiable import EagerLoss, FusedLoss, applied
from wideneck.functional.distribution import widened
from wideneck.functional.items import per_item
from wideneck.functional.numbers import plain_number
from wideneck.functional.op import Asked
from wideneck.functional.options import Layer, LossOptions
from wideneck.functional.products import asks_for_narrow
from wideneck.functional.shard import Shard
from wideneck.functional.transforms import TransformedLoss, is_transformed, refuse_traced
from wideneck.functional.vocab_parallel import locate, shared


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    target_ids: Tensor | None = None,
    activation: str | Activation = "softmax",
    log_prior: Tensor | None = None,
    logit_scale: float = 1.0,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk_size: int | None = None,
    group=None,
) -> Tensor:
    r"""Cross entropy of any activation, or a mixture of K of them, without the N x V scores.

    With z = input @ linear_weight.T + linear_bias and f the activation, the same as::

        log_p = wn.functional.log_prob(z, activation)                 # (N, V) or (N, K, V)
        log_p = wn.functional.log_mixture(log_prior, log_p)           # a mixture only
        F.cross_entropy(log_p, target, weight=weight, reduction=reduction,
                        ignore_index=ignore_index, label_smoothing=label_smoothing)

    Args:
        input: hidden states, (..., D) with `target` (...), or for a mixture (..., K, D).
        linear_weight: (V, D).  A DTensor sharded on its rows runs vocabulary-parallel.
        target: token ids, integers in [0, V) or `ignore_index`; or, floating point, class
            probabilities (..., V), which get no gradient.
        linear_bias: (V,).
        weight: (V,), what each class counts.  "mean" then is over the weights of the targets, and
            over tokens where the target is probabilities.
        target_ids: (..., M), the tokens whose probabilities `target` (..., M) holds, as a teacher's
            M best; the others have 0.
        activation: name or config.  Its numbers may be tensors of one number that require a
            gradient, as in `wn.GSS(slope=k)`.
        log_prior: (..., K), the logarithms of the mixture's weights.
        logit_scale: a constant factor of z, taken of its float32 sums where products are narrower.
        reduction: "mean" over the targets that are not ignored (0 if there are none), "sum",
            or "none" for one loss a target, 0 where ignored.
        ignore_index: the target that counts nothing; of token ids only.
        label_smoothing: the share, in [0, 1], of a target that all V classes have alike.
        z_loss: adds z_loss * (log-normalizer)^2 to every token's loss; for a mixture its mean
            over components.  Its mean is over tokens, whatever their classes weigh.
        chunk_size: tokens at a time; None chooses for speed: at most 2**26 scores, but never
            fewer than 256 rows.
        group: process group over which the vocabulary is split: every process passes the same
            input, target and class weights, and its own rows of linear_weight and linear_bias in
            the order of the ranks.

    Returns:
        A scalar, or the shape of `target` without the V of probabilities; natural logarithms, at
        least float32.

    Cost:
        "mean" and "sum" compute the gradients in the forward pass: three matrix products.
        "none" computes the scores again in the backward pass: four.  Sums and dW are at least
        float32 whatever the inputs, and products as well, but for bfloat16 inputs (or float32 ones
        under an accelerator's autocast to it) where the hardware multiplies that: the gradients of
        the scores are then rounded to bfloat16, except the target's, and the loss is not.
        Memory beyond the gradients: one chunk of scores, kept for the next call on a CPU, and a
        float32 copy of narrower weights where products are float32.
        label_smoothing and class probabilities cost two more passes over the chunk.

    Raises:
        WideneckError: shapes, dtypes or targets that do not fit, an unknown activation, a
            second or a forward-mode derivative (use `wn.functional.log_prob` there).
    """
    options = LossOptions(reduction, ignore_index, z_loss, label_smoothing, chunk_size)
    prediction = input, linear_weight, linear_bias, activation, log_prior, logit_scale
    return _loss(*prediction, target, target_ids, weight, options, group)[0]


def linear_cross_entropy_and_log_normalizer(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    target_ids: Tensor | None = None,
    activation: str | Activation = "softmax",
    log_prior: Tensor | None = None,
    logit_scale: float = 1.0,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    chunk_size: int | None = None,
    group=None,
) -> tuple[Tensor, Tensor]:
    """The loss of `linear_cross_entropy`, and log sum_j exp(f(z_j)) of every token.

    The log-normalizer has the shape of one loss a target (of `log_prior` for a mixture), is 0 where
    ignored, and is differentiable; using its gradient costs a recomputation, three products.
    `wn.functional.z_loss` makes of it, at no cost, the part of the loss that is z-loss.
    """
    options = LossOptions(reduction, ignore_index, z_loss, label_smoothing, chunk_size)
    prediction = input, linear_weight, linear_bias, activation, log_prior, logit_scale
    return _loss(*prediction, target, target_ids, weight, options, group)


def _loss(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | Activation,
    log_prior: Tensor | None,
    logit_scale: float,
    target: Tensor,
    target_ids: Tensor | None,
    class_weight: Tensor | None,
    options: LossOptions,
    group,
) -> tuple[Tensor, Tensor]:
    options = replace(
        options,
        z_loss=plain_number("z_loss", options.z_loss),
        label_smoothing=plain_number("label_smoothing", options.label_smoothing),
        narrow=asks_for_narrow(input, weight),
    )
    logit_scale = plain_number("logit_scale", logit_scale)
    refuse_traced()
    config = activation_config(activation)
    weight, bias, shard = locate(weight, bias, group, target, target_ids, class_weight)
    vocab_size = weight.shape[0] if shard.is_whole else shard.vocab_size
    soft = target.is_floating_point()
    tokens = target.shape[:-1] if soft else target.shape
    check_targets(target, target_ids, class_weight, options, vocab_size)
    check_shapes(input, weight, tokens, bias, log_prior, options.reduction, options.chunk_size)
    layer = by_token(input, weight, tokens, bias, config, log_prior, logit_scale, shard)
    N = len(layer.X)
    probs = target.reshape(N, target.shape[-1]) if soft else None
    ids = target.reshape(N) if not soft else target_ids
    ids = ids if ids is None else ids.reshape(N, *target.shape[len(tokens) :]).long()
    asked = Asked(encode(layer.form), options, shard, learning=torch.is_grad_enabled())
    tensors = (layer.X, weight, layer.b, layer.log_prior, layer.scale, ids, probs, class_weight)
    compute = TransformedLoss.apply if is_transformed() else applied(FusedLoss, EagerLoss, shard)
    loss, log_normalizer = compute(asked, *tensors, *layer.form.parameters)
    loss = loss.view(tokens) if options.reduction == "none" else loss
    return loss, log_normalizer.view(tokens if log_prior is None else log_prior.shape)


def by_token(
    input: Tensor,
    weight: Tensor,
    tokens: torch.Size,
    bias: Tensor | None,
    activation: Activation,
    log_prior: Tensor | None,
    logit_scale: float,
    shard: Shard,
) -> Layer:
    """What the fused passes take.

    The activation's scale is on b, where autograd follows it, and beside X; its shift is on b.
    """
    num_components = 1 if log_prior is None else log_prior.shape[-1]
    x = input.reshape(tokens.numel(), num_components, input.shape[-1])
    prior = None if log_prior is None else log_prior.reshape(len(x), num_components)

    like = torch.empty((), dtype=widened(x, weight), device=x.device)
    scale, shift, form = affine(activation, like)
    scale = scale if logit_scale == 1 else scale * logit_scale
    if not is_number(scale, 1):
        bias = None if bias is None else bias.to(like.dtype) * shared(scale, shard)
    if not is_number(shift, 0):
        zero = like.new_zeros(weight.shape[0]) if bias is None else bias.to(like.dtype)
        bias = zero + shared(shift, shard)
    factor = None
    if not is_number(scale, 1):
        factor = scale if isinstance(scale, Tensor) else like.new_full((), scale)
    return Layer(x, weight, bias, prior, factor, form, shard)


def z_loss(
    log_normalizer: Tensor,
    target: Tensor,
    factor: float,
    *,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """The part of `linear_cross_entropy(..., z_loss=factor)` that is factor * (log-normalizer)^2.

    For a report, of what `linear_cross_entropy_and_log_normalizer` returned: the loss less this is
    the cross entropy.  Detach the log-normalizer where the gradient is in the loss already.

    Args:
        log_normalizer: (...), or (..., K) of a mixture, as returned: 0 where ignored.
        target, reduction, ignore_index: what the loss was given.
        factor: its `z_loss`.

    Returns:
        A scalar, or with "none" one number per target.
    """
    check_reduction(reduction)
    soft = target.is_floating_point()
    tokens = target.shape[:-1] if soft else target.shape
    squares = factor * log_normalizer.square()
    if squares.ndim == len(tokens) + 1:
        squares = squares.mean(-1)
    if squares.shape != tokens:
        raise WideneckError(
            f"log_normalizer must have the shape of the targets {tuple(tokens)}, or one dimension "
            f"more for a mixture, got {tuple(log_normalizer.shape)}."
        )
    if reduction == "none":
        return squares
    count = squares.numel() if soft else (target != ignore_index).sum()
    return per_item(squares.sum(), count if reduction == "mean" else 1)
