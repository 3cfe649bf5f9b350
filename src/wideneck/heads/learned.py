"""What an activation learns, as parameters of a head."""

from typing import Any, final

import torch
from torch import nn

from wideneck.config import Activation


@final
class LearnedActivation(nn.Module):
    """An activation whose learned numbers, `Activation.raw`, are parameters in float32.

    A single number has shape (1,): FSDP2 shards no scalars.
    """

    def __init__(self, config: Activation, device: Any = None):
        super().__init__()
        self.config = config
        self.starts = {name: start for name, (_, start) in config.raw().items()}
        for name, (count, _) in config.raw().items():
            empty = torch.empty(count, device=device, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(empty))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The config's numbers."""
        for name, start in self.starts.items():
            getattr(self, name).fill_(start)

    def forward(self) -> Activation:
        """The activation with the present numbers, for `linear_cross_entropy` and `log_prob`."""
        if not self.starts:
            return self.config
        return self.config.learning({name: getattr(self, name) for name in self.starts})
