"""Running means of what a memory does, for the logs of a training run."""

from typing import final

import torch
from torch import Tensor

from wideneck.functional.items import per_item
from wideneck.memory.loss import Terms

NAMES = {
    "mixture": "nll",
    "model": "nll_model_only",
    "ranking": "ranking_loss",
    "mass": "cache_mass",
}


@final
class Statistics:
    """Means over targets since they were last taken, of training and of evaluation apart."""

    def __init__(self):
        self._sums: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}

    def add(
        self, training: bool, terms: Terms, right: dict[str, Tensor], num_looked: Tensor
    ) -> None:
        """Count a batch.

        Args:
            training: or evaluation.
            terms: of its loss.
            right: for each of "", "_model_only", "_cache_only" how many targets it predicted.
            num_looked: of how many, some or all.
        """
        for name, log_name in NAMES.items():
            value = getattr(terms, name).double()
            self._count(training, log_name, value * terms.num_targets, terms.num_targets)
        for name, hits in right.items():
            self._count(training, f"accuracy{name}", hits, num_looked)

    def take(self, training: bool) -> dict[str, float]:
        """The means, by name; the count starts anew."""
        sums, self._sums[training] = self._sums[training], {}
        return {
            name: per_item(total, count).item() for name, (total, count) in sums.items() if count
        }

    def _count(self, training: bool, name: str, total: Tensor, count: Tensor) -> None:
        # On the model's device, without waiting for it.
        now = torch.stack([total.double(), count.double()])
        before = self._sums[training].get(name)
        self._sums[training][name] = now if before is None else before + now
