"""What the scores of some tokens say, as sums that add up over chunks and processes."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wideneck.config import Mixture
from wideneck.functional.distribution import log_score, widened
from wideneck.heads.head import Head
from wideneck.models import LogitMap

TOKENS = 128
"""Tokens a chunk: 128 x 49,152 scores are 25 MB."""
SCORES = (
    "largest_score",
    "largest_above_mean",
    "mean_score",
    "log_normalizer",
    "_squared_log_normalizer",
    "entropy",
    "sum_sq_prob",
    "top_prob",
)
"""The order of the sums over tokens; of a mixture, which has no one score, the last three."""


@dataclass(frozen=True)
class OutputScores:
    """An output layer as a function of states, in at least float32 whatever the model runs in.

    A plain layer's logits go through what the model does to them; a head of wideneck knows that
    itself.
    """

    layer: nn.Module
    logit_map: LogitMap

    @property
    def is_mixture(self) -> bool:
        """Whether probabilities are a sum of several softmaxes, so that no score has them."""
        return isinstance(self.layer, Head) and isinstance(self.layer.config, Mixture)

    def raw(self, contexts: Tensor, weight: Tensor) -> Tensor:
        """What the matrix makes: (N, E) -> (N, V)."""
        bias = getattr(self.layer, "bias", None)
        return F.linear(contexts, weight, None if bias is None else _wide(whole(bias)))

    def exponents(self, raw: Tensor) -> Tensor:
        """z, whose exponentials the probabilities are: (N, V)."""
        if not isinstance(self.layer, Head):
            return self.logit_map(raw)
        return log_score(raw * self.layer.logit_scale, self.layer.activation())

    def contexts(self, hidden: Tensor) -> Tensor:
        """What meets the matrix: (N, D) -> (N, E)."""
        if not isinstance(self.layer, Head):
            return _wide(hidden)
        contexts, _ = self.layer.contexts(hidden)
        return _wide(contexts)

    def weight(self) -> Tensor:
        """(V, E), gathered where processes share it."""
        return _wide(whole(self.layer.weight))


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(widened(tensor))


def whole(tensor: Any) -> Tensor:
    """The tensor of all processes."""
    full = getattr(tensor, "full_tensor", None)
    return (tensor if full is None else full()).detach()


@torch.no_grad()
def score_sums(output: OutputScores, hidden: Tensor, target: Tensor | None) -> Tensor:
    """Sums over tokens, float64: N, each of `SCORES`, ||h||^2, and how often the target is first.

    Args:
        output: the layer.
        hidden: (N, D).
        target: (N,) ids; None where nobody knows them.

    Cost: N V D multiplications and some passes over N x V scores, `TOKENS` rows at a time.
    """
    weight = output.weight()
    sums = torch.zeros(len(SCORES) + 3, dtype=torch.float64, device=hidden.device)
    sums[0] = len(hidden)
    sums[-2] = hidden.double().square().sum()
    for start in range(0, len(hidden), TOKENS):
        part = hidden[start : start + TOKENS]
        if output.is_mixture:
            log_p = _log_probs(output.layer, part)
            columns, first = _of_log_probs(log_p), log_p.argmax(1)
        else:
            z = output.exponents(output.raw(output.contexts(part), weight))
            columns, first = _of_scores(z), z.argmax(1)
        sums[1 : 1 + len(SCORES)] += columns.double().sum(1)
        if target is not None:
            sums[-1] += (first == target[start : start + TOKENS]).sum()
    return sums


def _of_scores(z: Tensor) -> Tensor:
    """Each of `SCORES` of each token: (N, V) -> (8, N)."""
    low, high = z.aminmax(dim=1)
    mean, lse = z.mean(1), z.logsumexp(1)
    p = (z - lse[:, None]).exp_()
    squares = p.square().sum(1)
    entropy = lse - p.mul_(z).sum(1)
    top = (high - lse).exp()
    wide = lse.double()
    columns = [torch.maximum(-low, high), high - mean, mean, wide, wide**2, entropy, squares, top]
    return torch.stack([column.double() for column in columns])


def _of_log_probs(log_p: Tensor) -> Tensor:
    """The same, where there is no score: (N, V) -> (8, N)."""
    p = log_p.exp()
    found = [-(p * log_p).sum(1), p.square().sum(1), p.amax(1)]
    return torch.stack([*[torch.full_like(found[0], torch.nan)] * (len(SCORES) - 3), *found])


def _log_probs(layer: Any, hidden: Tensor) -> Tensor:
    return layer.log_probs(hidden.to(layer.weight.dtype))


def score_means(sums: Tensor, *, targets_known: bool) -> dict[str, float]:
    """The quantities of the sums of all processes."""
    values = sums.tolist()
    count = values[0]
    means = dict(zip(SCORES, (value / count for value in values[1:-2]), strict=True))
    squared = means.pop("_squared_log_normalizer")
    means["log_normalizer_variance"] = max(squared - means["log_normalizer"] ** 2, 0.0)
    means |= {"tokens": int(count), "state_norm": (values[-2] / count) ** 0.5}
    if targets_known:
        means["top1"] = values[-1] / count
    return means


@torch.enable_grad()
def logit_gradients(output: OutputScores, hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of each token g W and ||g||^2, g the gradient of its loss in the scores of the matrix.

    Args:
        output: not of a mixture.
        hidden: (N, D).
        target: (N,) ids.

    Returns:
        (N, E) and (N,), float64.
    """
    weight = output.weight()
    reached = [weight.new_zeros(0, weight.shape[1], dtype=torch.float64)]
    energy = [weight.new_zeros(0, dtype=torch.float64)]
    for start in range(0, len(hidden), TOKENS):
        with torch.no_grad():
            contexts = output.contexts(hidden[start : start + TOKENS])
            raw = output.raw(contexts, weight)
        raw.requires_grad_()
        nll = F.cross_entropy(
            output.exponents(raw), target[start : start + TOKENS], reduction="sum"
        )
        (g,) = torch.autograd.grad(nll, raw)
        reached.append((g @ weight).double())
        energy.append(g.square().sum(1, dtype=torch.float64))
    return torch.cat(reached), torch.cat(energy)
