"""From scores to weights: the formula of every normalizer, once.

Scores l (..., K) are in at least float32 here, `visible` (..., K) broadcasts against them, and n,
the number of visible keys, is (..., 1).  Rows without a visible key get zeros.  Nothing here reads
a value, so that graphs can be traced and derivatives taken of any order.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.attention import config as c
from wideneck.attention.entmax import entmax


def weights_of(scores: Tensor, visible: Tensor | None, config: c.Normalizer) -> Tensor:
    """Weights of rows of scores.

    Args:
        scores: (..., K), float32 or float64; of hidden keys they may be anything finite.
        visible: True where a key counts, broadcastable to the scores; None for all.
        config: the normalizer, whose numbers may be tensors.
    """
    return _FORMULAS[type(config)](scores, visible, config)


def count(scores: Tensor, visible: Tensor | None) -> Tensor:
    """n: visible keys of each row, (..., 1), in the dtype of the scores."""
    if visible is None:
        return scores.new_full((1,) * max(1, scores.ndim), scores.shape[-1])
    return visible.expand(scores.shape).sum(-1, keepdim=True, dtype=scores.dtype)


def scale(config: c.Normalizer, n: Tensor) -> Any:
    """The factor on the scores, a number or (..., 1); 1 where the normalizer has none."""
    if isinstance(config, c.Temperature):
        return 1 / config.temperature
    if isinstance(config, c.LogN):
        return n.clamp(min=1).log()
    if isinstance(config, c.SSMax):
        return config.scale * n.clamp(min=1).log() + config.bias
    if isinstance(config, c.ASEntmax):
        return config.delta + config.beta * (n.clamp(min=1) + 1).log() ** config.gamma
    return 1.0


def sink_logit(config: c.Normalizer) -> Any:
    """The score whose weight is thrown away: a number, a tensor, or None."""
    if isinstance(config, c.Softmax1):
        return 0.0
    return config.logit if isinstance(config, c.Sink) else None


def fixed_alpha(config: c.Normalizer) -> float | None:
    """The alpha of an entmax that has it in its name."""
    if isinstance(config, c.Sparsemax):
        return 2.0
    return 1.5 if isinstance(config, c.Entmax15) else None


def kept(scores: Tensor, visible: Tensor | None, k: int) -> Tensor:
    """True for the visible keys of the k largest scores, and for those equal to the k-th."""
    if visible is None:
        visible = torch.ones((), dtype=torch.bool, device=scores.device)
    masked = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    least = masked.topk(min(k, masked.shape[-1]), dim=-1).values[..., -1:]
    return visible & ~(masked < least)  # keeps a NaN, which must not vanish


def _hide(values: Tensor, visible: Tensor | None, by: float = 0.0) -> Tensor:
    return values if visible is None else values.masked_fill(~visible, by)


def _scaled(scores: Tensor, visible: Tensor | None, config: c.Normalizer) -> Tensor:
    if isinstance(config, c.Temperature | c.LogN | c.SSMax | c.ASEntmax):
        return scores * scale(config, count(scores, visible))
    return scores  # a product with 1 would be a pass over all scores


def _softmax(scores: Tensor, visible: Tensor | None, config: c.Normalizer) -> Tensor:
    # By the least finite number, not -inf: then a row of hidden keys alone gives no NaN.
    scores = _scaled(scores, visible, config)
    hidden = _hide(scores, visible, torch.finfo(scores.dtype).min)
    return _hide(hidden.softmax(-1), visible)


def _with_sink(scores: Tensor, visible: Tensor | None, config: c.Normalizer) -> Tensor:
    hidden = _hide(scores, visible, torch.finfo(scores.dtype).min)
    share = torch.sigmoid(hidden.logsumexp(-1, keepdim=True) - sink_logit(config))
    return _hide(hidden.softmax(-1) * share, visible)


def _topk(scores: Tensor, visible: Tensor | None, config: Any) -> Tensor:
    return _softmax(scores, kept(scores.detach(), visible, config.k), config)


def _entmax(scores: Tensor, visible: Tensor | None, config: Any) -> Tensor:
    alpha = fixed_alpha(config) or config.alpha
    if isinstance(alpha, float | int) and alpha == 1:
        return _softmax(scores, visible, config)
    alpha = torch.as_tensor(alpha, dtype=scores.dtype, device=scores.device)
    alpha = alpha.reshape((1,) * (scores.ndim - alpha.ndim) + alpha.shape)
    scores = _scaled(scores, visible, config)
    if visible is not None:
        visible = visible.expand(scores.shape)
    return entmax(scores, visible, alpha)


def _sigmoid(scores: Tensor, visible: Tensor | None, config: Any) -> Tensor:
    bias = config.bias
    if bias is None:
        bias = -count(scores, visible).clamp(min=1).log()
    return _hide(torch.sigmoid(scores + bias), visible)


def _relu(scores: Tensor, visible: Tensor | None, config: c.Normalizer) -> Tensor:
    return _hide(F.relu(scores) / count(scores, visible).clamp(min=1), visible)


def _stick_breaking(scores: Tensor, visible: Tensor | None, config: c.Normalizer) -> Tensor:
    passed = _hide(F.logsigmoid(-scores), visible)
    newer = F.pad(passed[..., 1:].flip(-1).cumsum(-1).flip(-1), (0, 1))
    # By exp2: exp may be MKL's, which takes long where the result rounds to 0, as most do here.
    return _hide(((F.logsigmoid(scores) + newer) * math.log2(math.e)).exp2(), visible)


_FORMULAS: dict[type, Callable[[Tensor, Tensor | None, Any], Tensor]] = {
    c.Softmax: _softmax,
    c.Temperature: _softmax,
    c.SSMax: _softmax,
    c.LogN: _softmax,
    c.Softmax1: _with_sink,
    c.Sink: _with_sink,
    c.TopK: _topk,
    c.Sparsemax: _entmax,
    c.Entmax15: _entmax,
    c.Entmax: _entmax,
    c.ASEntmax: _entmax,
    c.Sigmoid: _sigmoid,
    c.ReLU: _relu,
    c.StickBreaking: _stick_breaking,
}
