"""`linear_log_prob_loss`: a loss that is any function of each token's own log-probability."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from wideneck.config import Activation, activation_config
from wideneck.errors import WideneckError
from wideneck.functional.affine import decode, encode
from wideneck.functional.autocast import without_autocast
from wideneck.functional.check import check_ids, check_shapes, look
from wideneck.functional.distribution import widened
from wideneck.functional.fused import fused_nll
from wideneck.functional.in_forward import in_forward
from wideneck.functional.items import per_item
from wideneck.functional.loss import by_token
from wideneck.functional.numbers import plain_number
from wideneck.functional.options import ABOVE, Layer, Wanted
from wideneck.functional.products import asks_for_narrow
from wideneck.functional.transforms import refuse_transformed
from wideneck.functional.vocab_parallel import locate

Loss = Callable[..., Tensor]


@torch.compiler.disable
def linear_log_prob_loss(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    loss: Loss,
    *per_token: Tensor,
    linear_bias: Tensor | None = None,
    activation: str | Activation = "softmax",
    log_prior: Tensor | None = None,
    logit_scale: float = 1.0,
    reduction: str = "mean",
    ignore_index: int = -100,
    chunk_size: int | None = None,
    group=None,
) -> tuple[Tensor, Tensor]:
    r"""A loss that weighs every token by its own log-probability, at the cost of the plain loss.

    The same as ``loss(log_prob, *per_token)``, of the `log_prob` of `linear_token_outputs`, with
    the mean over the targets that are not ignored.  `loss` is called on some tokens at a time, as
    soon as their log-probabilities are known; its derivative, which autograd takes, is the factor
    of their rows, so that nothing is computed again.  PPO, and dynamic fine-tuning (DFT)::

        def ppo(log_prob, old, advantage):
            ratio = (log_prob - old).exp()
            return -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)

        loss, log_prob = linear_log_prob_loss(hidden, weight, target, ppo, old, advantage)

        loss, _ = linear_log_prob_loss(
            hidden, weight, target, lambda log_prob: -log_prob.detach().exp() * log_prob
        )

    Args:
        input, linear_weight, linear_bias, activation, log_prior, logit_scale, ignore_index,
            chunk_size, group: as in `linear_cross_entropy`.
        target: token ids, integers in [0, V) or `ignore_index`.
        loss: of log-probabilities (n,), at least float32, and the same tokens of `per_token`; it
            returns one number for each, (n,), which depends on no other token.
        per_token: tensors (..., *) with the leading shape of `target`, which get no gradient.
        reduction: "mean" over the targets that are not ignored (0 if there are none), or "sum".

    Returns:
        The loss, a scalar; and the log-probabilities, of the shape of `target`, without a gradient
        and 0 where ignored.

    Cost: that of `linear_cross_entropy`, three products.  `torch.compile` leaves the graph here.

    Raises:
        WideneckError: what `linear_cross_entropy` refuses; a loss of another shape.
    """
    refuse_transformed("linear_log_prob_loss")
    weight, bias, shard = locate(linear_weight, linear_bias, group, target)
    check_shapes(input, weight, target.shape, bias, log_prior, reduction, chunk_size)
    check_ids(target)
    if reduction == "none":
        raise WideneckError(
            "linear_log_prob_loss has reduction 'mean' or 'sum': for one loss a token, call the "
            "loss on the log_prob of linear_token_outputs, which costs one more product."
        )
    flat = tuple(_flat(tensor, target) for tensor in per_token)
    config, scale = activation_config(activation), plain_number("logit_scale", logit_scale)
    given = by_token(input, weight, target.shape, bias, config, log_prior, scale, shard)
    narrow = asks_for_narrow(input, linear_weight)
    ids = target.reshape(-1).long()

    def run(wanted: Wanted, tensors: tuple) -> tuple[Tensor, Tensor, list[Tensor]]:
        form = decode(*encode(given.form), list(tensors[ABOVE:]))
        x, W, b, prior, factor = tensors[:ABOVE]
        layer = Layer(x, W, b, prior, factor, form, shard)
        mask = ids != ignore_index
        kept = look(layer.X, ids, mask, layer.vocab_size, ignore_index)
        count = mask.sum() if reduction == "mean" else 1
        losses = layer.X.new_zeros(len(ids), dtype=widened(layer.X, weight))
        weigh = _Weigh(loss, flat, losses, count)
        with torch.no_grad(), without_autocast(layer.X.device.type):
            nll, _, gradients = fused_nll(
                layer, kept, ids, chunk_size=chunk_size, wanted=wanted, weight=weigh, narrow=narrow
            )
            return per_item(losses.sum(), count), -nll, shard.whole_gradients(gradients)

    tensors = given.X, weight, given.b, given.log_prior, given.scale, *given.form.parameters
    value, log_prob = in_forward(run, tensors, ABOVE, learning=torch.is_grad_enabled())
    return value, log_prob.view(target.shape)


@final
class _Weigh:
    """Makes of a chunk's losses the weights of its tokens, and keeps what `loss` makes of them."""

    def __init__(self, loss: Loss, per_token: tuple[Tensor, ...], losses: Tensor, count):
        self.loss, self.per_token, self.losses, self.count = loss, per_token, losses, count

    def __call__(self, n: slice | Tensor, nll: Tensor) -> Tensor:
        """(n,), d loss / d nll of the tokens n."""
        with torch.enable_grad():
            log_prob = (-nll.detach()).to(self.losses.dtype).requires_grad_()
            found = self.loss(log_prob, *(tensor[n] for tensor in self.per_token))
            if not isinstance(found, Tensor) or found.shape != nll.shape:
                came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise WideneckError(
                    f"The loss must return one number for each of its {len(nll)} "
                    f"log-probabilities, of shape {tuple(nll.shape)}, got {came}."
                )
            slope = torch.zeros_like(log_prob)
            if found.requires_grad:  # else a constant
                (slope,) = torch.autograd.grad(
                    found.sum(), log_prob, allow_unused=True, materialize_grads=True
                )
        self.losses[n] = found.detach().to(self.losses.dtype)
        return per_item(-slope, self.count)


def _flat(tensor: Tensor, target: Tensor) -> Tensor:
    """(N, ...), without a gradient."""
    if not isinstance(tensor, Tensor) or tensor.shape[: target.ndim] != target.shape:
        came = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise WideneckError(
            f"What the loss gets per token must be tensors of the targets' leading shape "
            f"{tuple(target.shape)}, got {came}."
        )
    if tensor.requires_grad and torch.is_grad_enabled():
        raise WideneckError(
            "linear_log_prob_loss has no gradient for what the loss gets per token: pass it "
            "detached."
        )
    return tensor.reshape(target.numel(), *tensor.shape[target.ndim :])
