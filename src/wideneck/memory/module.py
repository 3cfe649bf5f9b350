"""The part of a memory that a model holds: two learned numbers, a count and running means."""

from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck.memory.config import Memory
from wideneck.memory.statistics import Statistics


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
