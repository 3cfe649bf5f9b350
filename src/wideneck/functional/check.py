"""What the fused loss accepts, said in one sentence where something else came."""

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.functional.kept import Kept, may_wait
from wideneck.functional.options import LossOptions

REDUCTIONS = ("mean", "sum", "none")


def check_shapes(
    input: Tensor,
    weight: Tensor,
    tokens: tuple[int, ...],
    bias: Tensor | None,
    log_prior: Tensor | None,
    reduction: str,
    chunk_size: int | None,
) -> None:
    """Shapes and dtypes but those of targets, which have the shape `tokens`.

    Nothing here looks at a value, so that a graph can be traced.
    """
    if not input.is_floating_point():
        raise WideneckError(f"Hidden states must be floating point, got {input.dtype}.")
    if not weight.is_floating_point() or weight.ndim != 2:
        raise WideneckError(
            f"linear_weight must be a floating-point matrix (V, D), got {weight.dtype} of shape "
            f"{tuple(weight.shape)}."
        )
    if input.ndim == 0 or input.shape[-1] != weight.shape[1]:
        raise WideneckError(
            f"Hidden states of shape {tuple(input.shape)} do not fit linear_weight of shape "
            f"{tuple(weight.shape)}: their last dimensions must be the same."
        )
    want = tuple(tokens) + (() if log_prior is None else tuple(log_prior.shape[-1:]))
    if tuple(input.shape[:-1]) != want:
        kind = "(..., D)" if log_prior is None else "(..., K, D) with log_prior (..., K)"
        raise WideneckError(
            f"Hidden states {kind} must have the leading shape {want} of the targets, "
            f"got {tuple(input.shape)}."
        )
    if log_prior is not None and tuple(log_prior.shape) != want:
        raise WideneckError(f"log_prior must have shape {want}, got {tuple(log_prior.shape)}.")
    if log_prior is not None and log_prior.shape[-1] < 1:
        raise WideneckError("A mixture needs at least one component, got K = 0.")
    if bias is not None and tuple(bias.shape) != tuple(weight.shape[:1]):
        raise WideneckError(
            f"linear_bias must have shape {tuple(weight.shape[:1])}, got {tuple(bias.shape)}."
        )
    check_reduction(reduction)
    if chunk_size is not None and chunk_size < 1:
        raise WideneckError(f"chunk_size must be at least 1 token, got {chunk_size}.")


def check_reduction(reduction: str) -> None:
    """One of those that PyTorch has."""
    if reduction not in REDUCTIONS:
        raise WideneckError(f"reduction is one of {', '.join(REDUCTIONS)}, got {reduction!r}.")


def check_ids(target: Tensor) -> None:
    """Token ids are whole numbers."""
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise WideneckError(f"Targets must be token ids (integers), got {target.dtype}.")


def check_targets(
    target: Tensor,
    target_ids: Tensor | None,
    class_weight: Tensor | None,
    options: LossOptions,
    vocab_size: int,
) -> None:
    """Ids or class probabilities, and what may be said of them; looks at no value either."""
    if not 0 <= options.label_smoothing <= 1:
        raise WideneckError(f"label_smoothing must lie in [0, 1], got {options.label_smoothing}.")
    if class_weight is not None and (
        tuple(class_weight.shape) != (vocab_size,) or not class_weight.is_floating_point()
    ):
        raise WideneckError(
            f"weight, of the classes, must be floating point of shape ({vocab_size},), got "
            f"{class_weight.dtype} of shape {tuple(class_weight.shape)}."
        )
    shape = tuple(target.shape)
    if target_ids is not None:
        check_ids(target_ids)
        if not target.is_floating_point() or tuple(target_ids.shape) != shape or not shape:
            raise WideneckError(
                "target_ids (..., M) says of which tokens target holds the probabilities, floating "
                f"point of the same shape, got {tuple(target_ids.shape)} and {target.dtype} of "
                f"shape {shape}."
            )
    elif not target.is_floating_point():
        check_ids(target)
        _no_gradient(class_weight, "weight")
        return
    elif shape[-1:] != (vocab_size,):
        raise WideneckError(
            f"Targets must be token ids (integers), got {target.dtype} of shape {shape}; class "
            f"probabilities are of the whole vocabulary, (..., {vocab_size})."
        )
    if options.ignore_index != -100:
        raise WideneckError(
            f"ignore_index is for targets that are token ids, got {options.ignore_index} with "
            "class probabilities: leave it out, and these rows of input and target."
        )
    _no_gradient(class_weight, "weight")
    _no_gradient(target, "target")


def _no_gradient(tensor: Tensor | None, name: str) -> None:
    if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
        raise WideneckError(
            f"The loss has no gradient for {name}, which requires one: pass {name}.detach(), or "
            "use wideneck.functional.log_prob, which holds N x V."
        )


def look(
    x: Tensor, target: Tensor | None, mask: Tensor | None, vocab_size: int, ignore_index: int
) -> Kept:
    """The tokens that count; the one wait of a loss for the targets, or none where none may be.

    Args:
        x: hidden states; under anomaly detection they must be numbers.
        target: ids, (N,) or (N, M); None where there are none.
        mask: (N,), which targets count; None for all.
        vocab_size: over all processes.
        ignore_index: the target that does not, for the message.

    Raises:
        WideneckError: a target that counts is out of range.
    """
    if not may_wait(x.device):
        return Kept(len(x))
    number = len(x)
    if target is not None and target.numel():
        inside = target if mask is None else torch.where(mask, target, 0)
        count = inside.new_tensor(number) if mask is None else mask.sum()
        number, low, high = torch.stack([count, *inside.aminmax()]).tolist()
        if low < 0 or high >= vocab_size:
            other = "" if mask is None else f" or be ignore_index = {ignore_index}"
            raise WideneckError(
                f"Targets must lie in [0, {vocab_size}){other}, got {low if low < 0 else high}."
            )
    if torch.is_anomaly_enabled() and not torch.isfinite(x).all():
        bad = (~torch.isfinite(x)).flatten(1).any(1).nonzero().squeeze(1)
        raise WideneckError(
            f"The hidden states hold NaN or infinity in {len(bad)} of {len(x)} tokens, first in "
            f"token {int(bad[0])}; the loss would be NaN."
        )
    return Kept(number) if mask is None else Kept.counted(mask, number)


def check_temperature(temperature: Tensor | None, kept: Tensor) -> None:
    """Temperatures (N,) are positive numbers where the target counts."""
    if temperature is None:
        return
    bad = temperature[kept & ~((temperature > 0) & temperature.isfinite())]
    if len(bad):
        raise WideneckError(
            "temperature must be a positive number for every target that is not ignored, got "
            f"{bad[0].item()}."
        )
