"""`normalize`: scores to weights, for any shape, dtype and mask."""

from typing import Any

import torch
from torch import Tensor

from wideneck.attention.config import Normalizer, name_of, normalizer_config
from wideneck.errors import WideneckError
from wideneck.functional.numbers import fits, may_look, with_tensors


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
        parameters: fields of the config, numbers or tensors.  A tensor has one number for each row
            of scores, not for each key: it broadcasts against the scores as they are given, as
            in `scores * tensor`, with size 1 along `dim`.  For scores (B, H, Q, K), `scale` has
            shape (H, 1, 1) for a number per head; with `dim=-2`, (Q, K) of the scores and (1, K) of
            the tensor go together.  It is computed in the dtype of the scores, at least float32.

    Returns:
        Weights like the scores in shape and dtype, computed in at least float32.  Where the
        normalizer promises a sum of 1, rows sum to it within rounding of the dtype; rows without a
        visible key are zeros, with zero gradients, under every normalizer.

    Differentiable to any order with respect to scores and parameters, under `torch.func` and
    `torch.compile`, too.  Cost: a softmax and one or two passes; for entmax see `entmax`.

    Raises:
        WideneckError: an unknown normalizer or parameter, scores that are not floating point, a
            mask of another dtype or shape, a tensor of another shape among the parameters.  Also
            scores of NaN or +inf, and tensors with an entry that would be refused as a number, such
            as an alpha below 1: these are looked for on a CPU outside of compiled graphs and
            function transforms, and on other devices under anomaly detection only, as it would
            wait for them.  Where nobody looks, an alpha below 1 gives NaN.
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
    config = _per_row(config, scores, dim, rows)
    if visible is not None:
        # What a hidden key holds must reach neither weights nor gradients.
        rows = rows.masked_fill(~visible, 0)
    if not may_look(scores) or _some_hidden(rows.detach()):
        seen = rows != -torch.inf  # not >, which would hide a NaN as well
        visible = seen if visible is None else visible & seen
        rows = rows.masked_fill(~seen, 0)
    return config.weights(rows, visible).to(scores.dtype).movedim(-1, dim)


def _per_row(config: Normalizer, scores: Tensor, dim: int, rows: Tensor) -> Normalizer:
    """The config with its tensors moved as the scores are: (..., 1) for rows (..., K)."""
    name, keys = name_of(config), dim % scores.ndim

    def fit(field: str, value: Tensor) -> Tensor:
        aligned = (1,) * (scores.ndim - value.ndim) + tuple(value.shape)
        if not fits(value.shape, scores.shape) or aligned[keys] != 1:
            raise WideneckError(
                f"{name} takes one number per row for {field}, a tensor that broadcasts to scores "
                f"of shape {tuple(scores.shape)} with size 1 along dim = {dim}, where the keys "
                f"are; got shape {tuple(value.shape)}."
            )
        return value.reshape(aligned).movedim(dim, -1)

    return with_tensors(config, name, rows, fit)


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
