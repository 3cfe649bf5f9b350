"""`normalize`: scores to weights, for any shape, dtype and mask."""

from typing import Any

import torch
from torch import Tensor

from wideneck.attention.config import Normalizer, normalizer_config
from wideneck.attention.weights import weights_of
from wideneck.errors import WideneckError


def normalize(
    scores: Tensor,
    normalizer: str | dict | Normalizer = "softmax",
    mask: Tensor | None = None,
    *,
    dim: int = -1,
    **parameters: Any,
) -> Tensor:
    """Attention weights of scores.

    Args:
        scores: (..., K), already scaled by 1 / sqrt(d) where the model does that.  A score of -inf
            hides its key, as a mask does.
        normalizer: a name in `wideneck.attention.names()`, a config or its dictionary.
        mask: boolean, True where a key is visible, broadcastable to the scores.
        dim: the dimension of the keys; the newest key is the last.
        parameters: fields of the config, numbers or tensors that broadcast against the scores,
            such as `scale` of shape (H, 1, 1) for scores (B, H, Q, K).

    Returns:
        Weights like the scores in shape and dtype, computed in at least float32.  Where the
        normalizer promises a sum of 1, rows sum to it within rounding of the dtype; rows without a
        visible key are zeros, with zero gradients, under every normalizer.

    Differentiable to any order with respect to scores and parameters, under `torch.func` and
    `torch.compile`, too.  Cost: a softmax and one or two passes; for entmax see `entmax`.

    Raises:
        WideneckError: an unknown normalizer or parameter, scores that are not floating point, a
            mask of another dtype or shape, scores of NaN or +inf (looked for on a CPU, and on other
            devices under anomaly detection only, as it would wait for them).
    """
    config = normalizer_config(normalizer, **parameters)
    if not scores.is_floating_point() or scores.ndim == 0:
        raise WideneckError(
            f"Scores must be floating point of shape (..., K), got {scores.dtype} of shape "
            f"{tuple(scores.shape)}."
        )
    if not -scores.ndim <= dim < scores.ndim:
        raise WideneckError(f"dim = {dim} is no dimension of scores {tuple(scores.shape)}.")
    rows = scores.movedim(dim, -1)
    visible = None if mask is None else _as_rows(mask, scores, dim)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if visible is not None:
        # What a hidden key holds must reach neither weights nor gradients.
        rows = rows.masked_fill(~visible, 0)
    if not _may_look(scores) or _some_hidden(rows.detach()):
        seen = rows != -torch.inf  # not >, which would hide a NaN as well
        visible = seen if visible is None else visible & seen
        rows = rows.masked_fill(~seen, 0)
    return weights_of(rows, visible, config).to(scores.dtype).movedim(-1, dim)


def _as_rows(mask: Tensor, scores: Tensor, dim: int) -> Tensor:
    if mask.dtype != torch.bool:
        raise WideneckError(f"mask must be boolean, True where a key is visible, got {mask.dtype}.")
    try:
        return mask.expand(scores.shape).movedim(dim, -1)
    except RuntimeError as error:
        raise WideneckError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to scores of shape "
            f"{tuple(scores.shape)}."
        ) from error


def _may_look(scores: Tensor) -> bool:
    """Whether values can be read: not of a graph under construction, nor inside a transform."""
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(scores):
        return False
    return scores.device.type == "cpu" or torch.is_anomaly_enabled()


def _some_hidden(rows: Tensor) -> bool:
    """Whether a score is -inf; one of NaN or +inf is refused.  One pass."""
    if not rows.numel():
        return False
    low, high = (float(x) for x in rows.aminmax())
    if not high < torch.inf:  # NaN is neither
        bad = int((rows.isnan() | (rows == torch.inf)).sum())
        raise WideneckError(
            f"Scores must be finite, or -inf where a key is hidden; {bad} visible ones are NaN or "
            "+inf."
        )
    return low == -torch.inf
