"""What one step has shown of its states, until its numbers are made of it."""

from collections.abc import Set
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from wideneck.watching.scores import OutputScores, logit_gradients, score_means, score_sums
from wideneck.watching.weights import Spectrum, state_rank

IGNORED = -100
STATES = 4
"""States for their rank, over tokens whose scores are looked at."""


@final
class Seen:
    """Sums over the sampled tokens of this process, and the numbers of those of all processes.

    Args:
        wanted: the groups of quantities whose states are still to come.
    """

    def __init__(self, wanted: Set[str] = frozenset()):
        self.wanted = wanted
        self._sums: Tensor | None = None
        self._states: list[Tensor] = []
        self._energy: Tensor | None = None
        self._reached: Tensor | None = None
        self._known = False

    def take_scores(
        self, output: OutputScores, hidden: Tensor, target: Tensor | None, count: int
    ) -> None:
        """The sums of `count` tokens."""
        picked, targets = sampled(hidden, target, count)
        self._sums, self._known = score_sums(output, picked, targets), targets is not None

    def take_spectra(
        self, output: OutputScores, hidden: Tensor, target: Tensor | None, count: int
    ) -> None:
        """The moments of the states, and where there are targets the gradients of the scores."""
        states = sampled(hidden, target, STATES * count)[0].double()
        self._states = [states.sum(0), states.T @ states, states.new_tensor(float(len(states)))]
        picked, targets = sampled(hidden, target, count)
        if targets is not None and not output.is_mixture:
            self._reached, energy = logit_gradients(output, picked, targets)
            self._energy = energy.sum()

    def scores(self) -> dict[str, Any]:
        """Nothing where no state was seen; every process calls its model alike."""
        if self._sums is None:
            return {}
        sums = summed(self._sums)
        return score_means(sums, targets_known=self._known) if sums[0].item() > 0 else {}

    def spectra(self, spectrum: Spectrum) -> dict[str, Any]:
        """The rank of the states, and the share of the gradient that is kept."""
        found: dict[str, Any] = {}
        if self._states:
            total, gram, count = (summed(x) for x in self._states)
            if count > 1:
                found["effective_rank"] = state_rank(total, gram, count.item())
        if self._reached is not None and self._energy is not None:
            kept = self._energy.new_tensor(spectrum.kept(self._reached))
            kept, energy = summed(torch.stack([kept, self._energy])).tolist()
            if energy > 0:
                found["gradient_kept"] = min(kept / energy, 1.0)
        return found


def summed(ours: Tensor) -> Tensor:
    """The sum over processes."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(ours)
    return ours


def sampled(hidden: Tensor, target: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
    """At most `count` of the states that have a target, evenly spaced, and their targets.

    Args:
        hidden: (N, D).
        target: (N,), `IGNORED` where there is none; None where nobody knows.
        count: states wanted.
    """
    if target is None:
        index = torch.arange(len(hidden), device=hidden.device)
    else:
        index = (target != IGNORED).nonzero()[:, 0]
    if len(index) > count:
        places = torch.arange(count, device=index.device) * len(index) // count
        index = index[places]
    return hidden[index], None if target is None else target[index]
