"""What a memory of any temperature and bias would make of documents, from one pass over them.

So a cache is fitted afterwards to a model that was trained without one (Grave et al. 2017), and one
pass tells what the mixture, the model and the memory's share are under every setting.

W documents, T targets each, M memories, D hidden size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from wideneck.memory import (
    Memory,
    Recall,
    distinct,
    log_shares,
    masked_logsumexp,
    mixture_nll,
    positives,
    similarities,
)


@dataclass(frozen=True)
class Seen:
    """Documents as a model with a memory has read them, padded on the right to one shape."""

    nll: Tensor
    """(W, T), -log p(target) of the model without its memory."""
    log_normalizer: Tensor
    """(W, T), log of the sum of exp(z) over the vocabulary; for a memory of raw scores."""
    similarity: Tensor
    """(W, T, M), scaled dot products, without temperature and bias."""
    visible: Tensor
    """(W, T, M), the memories that stand before a target; of padding none."""
    values: Tensor
    """(W, M), their tokens."""
    target: Tensor
    """(W, T), -1 where nothing is asked."""

    @classmethod
    def of(
        cls,
        head: Any,
        hidden: Tensor,
        keys: Tensor,
        visible: Tensor,
        values: Tensor,
        target: Tensor,
    ) -> "Seen":
        """From states: the output layer answers for the targets.

        Args:
            head: the model's output layer.
            hidden: (W, T, D), what enters it.
            keys: (W, M, D), the states of the memories.
            visible: (W, T, M).
            values: (W, M).
            target: (W, T), negative where nothing is asked.
        """
        target = target.clamp(min=-1)
        nll, log_normalizer = head.nll_and_log_normalizer(hidden, target, ignore_index=-1)
        return cls(nll, log_normalizer, similarities(hidden, keys), visible, values, target)

    @classmethod
    def joined(cls, parts: Iterable["Seen"]) -> "Seen":
        """One after the other, padded to the longest."""
        parts = list(parts)
        T = max(part.similarity.shape[1] for part in parts)
        M = max(part.similarity.shape[2] for part in parts)

        def all_of(name: str) -> Tensor:
            fill = -1 if name in ("values", "target") else 0
            return torch.cat([_grown(getattr(part, name), name, T, M, fill) for part in parts])

        return cls(**{field.name: all_of(field.name) for field in fields(cls)})

    @property
    def asked(self) -> Tensor:
        """(W, T), where there is a target."""
        return self.target >= 0

    def likelihoods(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """(W, T) losses of the mixture in nats and the memory's share, under any setting.

        Args:
            memory: with its temperature and bias.
        """
        assert memory.temperature is not None
        assert memory.bias is not None
        s = self.similarity / memory.temperature + memory.bias
        log_all = masked_logsumexp(s, self.visible)
        positive = positives(self.visible, self.values, self.target)
        found = Recall(log_all, masked_logsumexp(s, positive))
        share = log_shares(memory, log_all, self.log_normalizer)[1].exp()
        return mixture_nll(memory, self.nll, found, self.log_normalizer), share

    def means(self, values: Tensor) -> list[float]:
        """Of (W, T) over the targets of each document, which has one at least."""
        asked = self.asked
        return (torch.where(asked, values, 0).double().sum(1) / asked.sum(1)).tolist()

    def alignment(self) -> float | None:
        """Mean reciprocal rank of the target among the distinct tokens of its memory.

        Tokens are ranked by the most similar of their memories, and one as similar as the target
        counts half; over the targets that stand in their memory, None where none does.
        """
        inside = positives(self.visible, self.values, self.target).any(-1)
        return self._ranks()[inside].mean().item() if inside.any() else None

    def recalled(self) -> float:
        """Share of the targets that stand in their memory."""
        inside = positives(self.visible, self.values, self.target).any(-1)
        return inside[self.asked].double().mean().item()

    def _ranks(self) -> Tensor:
        """(W, T), reciprocal; without meaning where the target is in no memory."""
        groups = distinct(self.values)
        scores = self.similarity.masked_fill(~self.visible, -torch.inf)
        best = torch.full_like(scores, -torch.inf)
        best.scatter_reduce_(2, groups.group[:, None].expand_as(scores), scores, "amax")
        is_target = groups.ids[:, None] == self.target[..., None]
        own = best.masked_fill(~is_target, -torch.inf).amax(-1, keepdim=True)
        above, level = (best > own).sum(-1), (best == own).sum(-1) - 1
        return 1 / (1 + above + level.double() / 2)


def fitted(of: Seen, start: Memory) -> Memory:
    """A joint memory with the temperature and bias of the lowest mean loss (Nelder & Mead 1965).

    Args:
        of: the documents that it is to be best on.
        start: with the temperature and bias to begin at.

    Cost: some 60 times the sum over all W T M similarities.
    """
    memory = Memory(temperature=start.temperature, bias=start.bias)
    assert memory.temperature is not None
    assert memory.bias is not None
    unit, bias = memory.temperature, memory.bias

    def at(x: Any) -> Memory:
        return replace(memory, temperature=float(x[0]) * unit, bias=float(x[1]))

    def loss(x: Any) -> float:
        return of.likelihoods(at(x))[0][of.asked].double().mean().item()

    simplex = [[1.0, bias], [0.5, bias], [1.0, bias + 2]]
    options = {"initial_simplex": simplex, "xatol": 1e-2, "fatol": 1e-5}
    bounds = [(1e-2, 1e2), (None, None)]
    found = minimize(loss, simplex[0], method="Nelder-Mead", bounds=bounds, options=options)
    return at(found.x)


def _grown(tensor: Tensor, name: str, T: int, M: int, fill: int) -> Tensor:
    """Padded on the right to T targets and M memories."""
    wide = {"values": (M,), "similarity": (T, M), "visible": (T, M)}.get(name, (T,))
    sides: Iterator[int] = (
        side
        for want, have in zip(reversed(wide), reversed(tensor.shape), strict=False)
        for side in (0, want - have)
    )
    return F.pad(tensor, list(sides), value=fill)
