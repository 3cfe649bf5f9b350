"""`linear_cross_entropy`: the fused loss as PyTorch sees it, checked, differentiable, compilable.

Arguments have the names and the order of `torch.nn.functional.linear_cross_entropy`.
"""

import torch
from torch import Tensor

from wideneck.config import Activation, activation_config
from wideneck.functional.check import check_loss
from wideneck.functional.distribution import widened
from wideneck.functional.forms import Form, affine, encode, is_number
from wideneck.functional.numbers import plain_number
from wideneck.functional.op import FusedLoss
from wideneck.functional.shard import Shard
from wideneck.functional.vocab_parallel import locate, shared


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    activation: str | Activation = "softmax",
    log_prior: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    z_loss: float = 0.0,
    chunk_size: int | None = None,
    group=None,
) -> Tensor:
    r"""Cross entropy of any activation, or a mixture of K of them, without the N x V scores.

    With z = input @ linear_weight.T + linear_bias and f the activation, the same as::

        log_p = wn.functional.log_prob(z, activation)                 # (N, V) or (N, K, V)
        log_p = wn.functional.log_mixture(log_prior, log_p)           # a mixture only
        F.nll_loss(log_p, target, reduction=reduction, ignore_index=ignore_index)

    Args:
        input: hidden states, (..., D) with `target` (...), or for a mixture (..., K, D).
        linear_weight: (V, D).  A DTensor sharded on its rows runs vocabulary-parallel.
        target: token ids, integers in [0, V) or `ignore_index`.
        linear_bias: (V,).
        activation: name or config.  Its numbers may be tensors of one number that require a
            gradient, as in `wn.GSS(slope=k)`.
        log_prior: (..., K), the logarithms of the mixture's weights.
        reduction: "mean" over the targets that are not ignored (0 if there are none), "sum",
            or "none" for one loss a target, 0 where ignored.
        ignore_index: the target that counts nothing.
        z_loss: adds z_loss * (log-normalizer)^2 to every token's loss; for a mixture its mean
            over components.
        chunk_size: tokens at a time; None chooses for speed: at most 2**26 scores, but never
            fewer than 256 rows.
        group: process group over which the vocabulary is split: every process passes the same
            input and target, and its own rows of weight and bias in the order of the ranks.

    Returns:
        A scalar, or the shape of `target`; natural logarithms, at least float32.

    Cost:
        "mean" and "sum" compute the gradients in the forward pass: three matrix products.
        "none" computes the scores again in the backward pass: four.  Products, sums and dW are
        at least float32 whatever the inputs.  Memory beyond the gradients: one chunk of scores,
        kept for the next call on a CPU, and a float32 copy of narrower weights.

    Raises:
        WideneckError: shapes, dtypes or targets that do not fit, an unknown activation, or a
            second derivative (use `wn.functional.log_prob` there).
    """
    loss, _ = _loss(
        input,
        linear_weight,
        target,
        linear_bias,
        activation,
        log_prior,
        reduction,
        ignore_index,
        z_loss,
        chunk_size,
        group,
    )
    return loss


def linear_cross_entropy_and_log_normalizer(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    activation: str | Activation = "softmax",
    log_prior: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    z_loss: float = 0.0,
    chunk_size: int | None = None,
    group=None,
) -> tuple[Tensor, Tensor]:
    """The loss of `linear_cross_entropy`, and log sum_j exp(f(z_j)) of every token.

    The log-normalizer has the shape of `target` (of `log_prior` for a mixture), is 0 where
    ignored, and is differentiable; using its gradient costs a recomputation, three products.
    """
    return _loss(
        input,
        linear_weight,
        target,
        linear_bias,
        activation,
        log_prior,
        reduction,
        ignore_index,
        z_loss,
        chunk_size,
        group,
    )


def _loss(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    activation: str | Activation,
    log_prior: Tensor | None,
    reduction: str,
    ignore_index: int,
    z_loss: float,
    chunk_size: int | None,
    group,
) -> tuple[Tensor, Tensor]:
    config = activation_config(activation)
    z_loss = plain_number("z_loss", z_loss)
    weight, bias, shard = locate(weight, bias, group, target)
    check_loss(input, weight, target, bias, log_prior, reduction, chunk_size)
    x, bias, prior, form = by_token(input, weight, target, bias, config, log_prior, shard)

    apply = FusedLoss.apply if shard.is_whole else torch.compiler.disable(FusedLoss.apply)
    nll, log_normalizer = apply(
        x,
        weight,
        bias,
        prior,
        target.reshape(-1).long(),
        encode(form),
        reduction,
        ignore_index,
        z_loss,
        chunk_size,
        shard,
        torch.is_grad_enabled(),
        *form.parameters,
    )
    loss = nll.view(target.shape) if reduction == "none" else nll
    shape = target.shape if log_prior is None else log_prior.shape
    return loss, log_normalizer.view(shape)


def by_token(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    activation: Activation,
    log_prior: Tensor | None,
    shard: Shard,
) -> tuple[Tensor, Tensor | None, Tensor | None, Form]:
    """What the fused passes take: X (N, K, D), b, log_prior (N, K) and the activation's form.

    Its scale is on X and b, its shift on b, where autograd follows them.
    """
    num_components = 1 if log_prior is None else log_prior.shape[-1]
    x = input.reshape(target.numel(), num_components, input.shape[-1])
    prior = None if log_prior is None else log_prior.reshape(target.numel(), num_components)

    like = torch.empty((), dtype=widened(x, weight), device=x.device)
    scale, shift, form = affine(activation, like)
    if not is_number(scale, 1):
        x = x.to(like.dtype) * scale
        bias = None if bias is None else bias.to(like.dtype) * shared(scale, shard)
    if not is_number(shift, 0):
        zero = like.new_zeros(weight.shape[0]) if bias is None else bias.to(like.dtype)
        bias = zero + shared(shift, shard)
    return x, bias, prior, form
