"""Which rows of the output matrix this process holds, and how the processes agree.

Each holds all tokens and a part of the vocabulary.  A chunk needs two reductions of a few
numbers for each row: the largest score, then normalizer and target score together.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor


@final
@dataclass(frozen=True)
class Shard:
    """Rows `start` to `start + size` of the vocabulary; all of it without a group."""

    start: int = 0
    size: int = 0
    group: Any = None
    """A torch.distributed process group, None where this process holds everything."""
    vocab_size: int = 0
    """Rows over all processes."""
    largest: int = 0
    """Rows of the process that holds most: all must cut the tokens into the same chunks."""
    memory: int = 0
    """Bytes of the smallest accelerator among them, for the same reason."""

    @property
    def is_whole(self) -> bool:
        return self.group is None

    def local(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Where the targets are: 1 if here and 0 if not, and the row here (0 if not)."""
        if self.is_whole:
            return torch.ones((), device=target.device), target
        here = (target >= self.start) & (target < self.start + self.size)
        return here, torch.where(here, target - self.start, 0)

    def max(self, top: Tensor) -> Tensor:
        """The first reduction."""
        if not self.is_whole:
            # NCCL and gloo drop a NaN in a maximum; it must not become a finite loss.
            top = top.nan_to_num(nan=torch.inf)
            dist.all_reduce(top, dist.ReduceOp.MAX, group=self.group)
        return top

    def sum(self, here: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        """The second reduction: sums of the first part, and of the others where `here`."""
        first, *rest = parts
        if self.is_whole:
            return parts
        both = torch.stack([first, *(torch.where(here, part, 0) for part in rest)])
        dist.all_reduce(both, group=self.group)
        return tuple(both)

    def whole_gradients(self, gradients: "list[Tensor | None]") -> list[Tensor]:
        """Those that there are, of X, W, b, log_prior, scale and parameters, over all processes.

        W and b are this process's own, and log_prior is the same in all of them.
        """
        for part in (gradients[0], *gradients[4:]):
            if part is not None:
                self.add_up(part)
        return [gradient for gradient in gradients if gradient is not None]

    def add_up(self, partial: Tensor) -> Tensor:
        """Adds, in place, the parts of a sum that every process computed from its own rows."""
        if not self.is_whole:
            dist.all_reduce(partial, group=self.group)
        return partial


WHOLE = Shard()
