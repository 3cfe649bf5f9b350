"""The z-loss apart from the loss that it was added to."""

from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.functional.check import check_reduction
from wideneck.functional.items import per_item


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
        A scalar, or with "none" one number a target.
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
