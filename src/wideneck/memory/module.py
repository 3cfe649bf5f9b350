"""The part of a memory that a model holds: two learned numbers, a count and running means."""

from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck.functional.items import per_item
from wideneck.memory.config import Memory
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


@final
class CacheMemory(nn.Module):
    """Temperature and bias of the similarities.

    Learned numbers are float32 of shape (1,), as FSDP2 shards no scalars.  A linear mixture learns
    no bias, which it does not see.
    """

    def __init__(self, config: Memory, device: Any = None):
        super().__init__()
        assert config.temperature is not None
        assert config.bias is not None
        self.config = config
        self._start = (config.temperature, config.bias)
        self.statistics = Statistics()
        place = {"device": device, "dtype": torch.float32}
        self.log_temperature = self.bias = None
        if config.learned:
            self.log_temperature = nn.Parameter(torch.empty(1, **place))
            if config.mixture == "joint":
                self.bias = nn.Parameter(torch.empty(1, **place))
        if config.warmup_batches:
            # In the checkpoint, so that a resumed run does not warm up again.
            count = torch.zeros(1, dtype=torch.long, device=device)
            self.register_buffer("num_batches", count)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The config's numbers."""
        temperature, bias = self._start
        if self.log_temperature is not None:
            self.log_temperature.fill_(temperature).log_()
        if self.bias is not None:
            self.bias.fill_(bias)

    def forward(self, similarity: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of the memories, and what the ranking loss orders.

        The latter has the temperature as it stands, which could make the loss small by itself.

        Args:
            similarity: (B, Q, M), scaled dot products.
        """
        temperature, bias = self._start
        if self.log_temperature is None:
            ordered = s = similarity / temperature
        else:
            inverse = (-self.log_temperature).exp()
            ordered, s = similarity * inverse.detach(), similarity * inverse
        return s + (bias if self.bias is None else self.bias), ordered

    def warms_up(self) -> bool:
        """Count a training batch, and tell whether it still trains the model alone."""
        if not self.config.warmup_batches:
            return False
        self.num_batches += 1
        return bool(self.num_batches <= self.config.warmup_batches)
