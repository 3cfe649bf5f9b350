"""The mean of all iterates since some step, as in averaged SGD (Polyak & Juditsky 1992).

How AWD-LSTMs are trained, there by `torch.optim.ASGD` with lambd = 0; started after s steps, the
mean here is that of ASGD with t0 = s - 1.  Memory: the parameters once more.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn


@final
class Averaging:
    """Means of parameters, by name; empty until it is started."""

    def __init__(self, named_parameters: Iterable[tuple[str, nn.Parameter]]):
        self.parameters = {name: p for name, p in named_parameters if p.requires_grad}
        self.means: dict[str, Tensor] = {}
        self.count = 0

    @property
    def started(self) -> bool:
        """Whether the averages count."""
        return bool(self.means)

    @torch.no_grad()
    def start(self) -> None:
        """From the next `update` on; until then the mean is the parameters as they are."""
        self.means = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.count = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after a step."""
        self.count += 1
        for name, mean in self.means.items():
            mean.lerp_(self.parameters[name], 1 / self.count)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters are their means; changes of them inside are lost."""
        if not self.started:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # The numbers, not the tensors: FSDP2 keeps tensors of its own over the same memory.
        for name, mean in self.means.items():
            parameter = self.parameters[name]
            before = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(before)
