"""Every normalizer once more, by its definition: one row at a time, in float64, with loops."""

import math
from decimal import Decimal

import torch


def slow_row(name: str, scores: list[float], **kw) -> list[float]:
    """Weights of one row of visible scores, the newest last."""
    n = len(scores)
    if n == 0:
        return []
    return {
        "softmax": lambda: _softmax(scores),
        "temperature": lambda: _softmax([x / kw["temperature"] for x in scores]),
        "softmax1": lambda: _softmax([*scores, 0.0])[:-1],
        "sink": lambda: _softmax([*scores, kw["logit"]])[:-1],
        "ssmax": lambda: _softmax([(kw["scale"] * math.log(n) + kw["bias"]) * x for x in scores]),
        "logn": lambda: _softmax([math.log(n) * x for x in scores]),
        "topk": lambda: _topk(scores, kw["k"]),
        "sparsemax": lambda: _entmax(scores, 2.0),
        "entmax15": lambda: _entmax(scores, 1.5),
        "entmax": lambda: _entmax(scores, kw["alpha"]),
        "asentmax": lambda: _entmax(
            [(kw["delta"] + kw["beta"] * math.log(n + 1) ** kw["gamma"]) * x for x in scores],
            kw["alpha"],
        ),
        "sigmoid": lambda: [_sigmoid(x + kw.get("bias", -math.log(n))) for x in scores],
        "relu": lambda: [max(x, 0.0) / n for x in scores],
        "stickbreaking": lambda: _sticks(scores),
        "adaptivetemperature": lambda: _sharpened(scores),
        "softpick": lambda: _picked(scores, kw.get("epsilon", 1e-6)),
    }[name]()


def slow_weights(name: str, scores: torch.Tensor, mask: torch.Tensor, **kw) -> torch.Tensor:
    """The rows of a matrix; hidden keys get 0."""
    result = torch.zeros(scores.shape, dtype=torch.float64)
    for row, seen, out in zip(scores.double(), mask, result, strict=True):
        out[seen] = torch.tensor(slow_row(name, row[seen].tolist(), **kw), dtype=torch.float64)
    return result


def _softmax(scores: list[float]) -> list[float]:
    exps = [math.exp(x - max(scores)) for x in scores]
    return [e / sum(exps) for e in exps]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _topk(scores: list[float], k: int) -> list[float]:
    least = sorted(scores, reverse=True)[min(k, len(scores)) - 1]
    kept = [x for x in scores if x >= least]
    return [math.exp(x - max(kept)) / sum(math.exp(y - max(kept)) for y in kept)
            if x >= least else 0.0 for x in scores]  # fmt: skip


def _entmax(scores: list[float], alpha: float) -> list[float]:
    """By bisection on the threshold of the definition."""
    c = alpha - 1

    def weights(tau: float) -> list[float]:
        return [max(c * x - tau, 0.0) ** (1 / c) for x in scores]

    low, high = c * max(scores) - 1, c * max(scores)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weights(middle)) >= 1 else (low, middle)
    return weights(low)


def _sticks(scores: list[float]) -> list[float]:
    left, weights = 1.0, []
    for x in reversed(scores):
        weights.append(left * _sigmoid(x))
        left *= _sigmoid(-x)
    return weights[::-1]


def _sharpened(scores: list[float]) -> list[float]:
    """By the polynomial as the paper's appendix writes it out."""
    entropy = -sum(p * math.log(p) for p in _softmax(scores) if p > 0)
    beta = 1.0
    if entropy > 0.5:
        powers = entropy**4, entropy**3, entropy**2, entropy, 1.0
        beta = sum(c * h for c, h in zip((-0.037, 0.481, -2.3, 4.917, -1.791), powers, strict=True))
        beta = max(beta, 1.0)
    return _softmax([beta * x for x in scores])


def _picked(scores: list[float], epsilon: float) -> list[float]:
    """In 400 digits of exponent, as exp(1e4) is beyond float64."""
    excess = [Decimal(x).exp() - 1 for x in scores]
    total = Decimal(epsilon) + sum(abs(u) for u in excess)
    return [float(max(u, Decimal(0)) / total) for u in excess]
