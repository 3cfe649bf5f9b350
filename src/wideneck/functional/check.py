"""What the fused loss accepts, said in one sentence where something else came."""

import torch
from torch import Tensor

from wideneck.errors import WideneckError

REDUCTIONS = ("mean", "sum", "none")


def check_loss(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    reduction: str,
    chunk_size: int | None,
) -> None:
    """Shapes and dtypes; nothing here looks at a value, so that a graph can be traced."""
    if not input.is_floating_point():
        raise WideneckError(f"Hidden states must be floating point, got {input.dtype}.")
    if not weight.is_floating_point() or weight.ndim != 2:
        raise WideneckError(
            f"linear_weight must be a floating-point matrix (V, D), got {weight.dtype} of shape "
            f"{tuple(weight.shape)}."
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise WideneckError(f"Targets must be token ids (integers), got {target.dtype}.")
    if input.ndim == 0 or input.shape[-1] != weight.shape[1]:
        raise WideneckError(
            f"Hidden states of shape {tuple(input.shape)} do not fit linear_weight of shape "
            f"{tuple(weight.shape)}: their last dimensions must be the same."
        )
    want = tuple(target.shape) + (() if log_prior is None else tuple(log_prior.shape[-1:]))
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
    if reduction not in REDUCTIONS:
        raise WideneckError(f"reduction is one of {', '.join(REDUCTIONS)}, got {reduction!r}.")
    if chunk_size is not None and chunk_size < 1:
        raise WideneckError(f"chunk_size must be at least 1 token, got {chunk_size}.")


def check_values(x: Tensor, target: Tensor, ignore_index: int, vocab_size: int) -> None:
    """Targets in range; under anomaly detection, hidden states that are numbers."""
    kept = target[target != ignore_index]
    if len(kept):
        low, high = (int(v) for v in kept.aminmax())
        if low < 0 or high >= vocab_size:
            raise WideneckError(
                f"Targets must lie in [0, {vocab_size}) or be ignore_index = {ignore_index}, "
                f"got {low if low < 0 else high}."
            )
    if torch.is_anomaly_enabled() and not torch.isfinite(x).all():
        bad = (~torch.isfinite(x)).flatten(1).any(1).nonzero().squeeze(1)
        raise WideneckError(
            f"The hidden states hold NaN or infinity in {len(bad)} of {len(x)} tokens, first in "
            f"token {int(bad[0])}; the loss would be NaN."
        )


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
