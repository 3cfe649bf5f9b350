"""What an activation learns, as parameters of a head."""

import math
from dataclasses import replace
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import nn

from wideneck.config import GSS, PLIF, Activation, ScaledSoftmax, Sigmoid, Sigsoftmax

LEARNABLE: dict[type, tuple[str, ...]] = {
    ScaledSoftmax: ("scale",),
    Sigsoftmax: ("shift",),
    Sigmoid: ("shift",),
    GSS: ("bend", "slope"),
}


@final
class LearnedActivation(nn.Module):
    """An activation whose learned numbers are parameters, float32, of shape (1,) each.

    FSDP2 shards no scalars, hence the one dimension.  A PLIF learns v, (num_knots - 1,), with
    slopes softplus(v) that start at 1, so that it starts as the softmax.
    """

    def __init__(self, config: Activation, device: Any = None):
        super().__init__()
        self.config = config
        self.names: tuple[str, ...] = ()
        place = {"device": device, "dtype": torch.float32}  # whatever the default type is
        if isinstance(config, PLIF):
            self.v = nn.Parameter(torch.empty(config.num_knots - 1, **place))
        elif getattr(config, "learned", False):
            self.names = LEARNABLE[type(config)]
            for name in self.names:
                self.register_parameter(name, nn.Parameter(torch.empty(1, **place)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The config's numbers; a PLIF becomes the identity."""
        for name in self.names:
            getattr(self, name).fill_(getattr(self.config, name))
        if isinstance(self.config, PLIF):
            self.v.fill_(math.log(math.e - 1))  # softplus(log(e - 1)) = 1

    def forward(self) -> Activation:
        """The activation with the present numbers, for `linear_cross_entropy` and `log_prob`."""
        if isinstance(self.config, PLIF):
            # In float64: 100,000 steps summed in float32 would bend the straight line.
            step = 2 * self.config.reach / (self.config.num_knots - 1)
            rises = F.softplus(self.v.double()).cumsum(0) * step
            return replace(self.config, values=F.pad(rises, (1, 0)) - self.config.reach)
        if not self.names:
            return self.config
        numbers = {name: getattr(self, name)[0] for name in self.names}
        for name in ("scale", "slope"):
            if name in numbers:  # f must not fall, so a factor that crosses 0 counts by its size
                numbers[name] = numbers[name].abs()
        return replace(self.config, **numbers)
