"""What each prediction of a window may remember: the values of its memory, and where its target is.

Letters: W windows, T predictions, P tokens put in front, M = P + T - 1 memories, U distinct values.
Memory j is (h_j, v_j) with v_j the token at j + 1; the prediction at position i sees j < i.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from wideneck.data import Windows
from wideneck.memory.scores import visible_history

OTHERS = 8
"""Windows of other documents that one window is compared with."""


@dataclass(frozen=True)
class Context:
    """Memories and predictions of all windows."""

    keys: Tensor
    """(W, M) the token at each memory's position."""
    values: Tensor
    """(W, M) the token that followed."""
    current: Tensor
    """(W, T) the last token that each prediction sees."""
    targets: Tensor
    """(W, T)."""
    visible: Tensor
    """(T, M) True where prediction and memory may meet; the same in every window."""
    document: Tensor
    """(W,)."""

    @classmethod
    def of(cls, windows: Windows) -> "Context":
        """The memories of windows of tokens."""
        ids, window = windows.ids, windows.targets.shape[1]
        return cls(
            keys=ids[:, :-1],
            values=ids[:, 1:],
            current=ids[:, -window:],
            targets=windows.targets,
            visible=visible_history(torch.ones_like(ids[:1], dtype=torch.bool), window)[0],
            document=windows.document,
        )

    @property
    def positions(self) -> Tensor:
        """(T,) where in the window each prediction is made."""
        num_memories, window = self.values.shape[1], self.targets.shape[1]
        return torch.arange(num_memories + 1 - window, num_memories + 1)

    def last(self, targets: Tensor) -> Tensor:
        """(W, T) the latest visible memory whose value is the target (W, T); -1 where none is."""
        at = torch.arange(self.values.shape[1])
        rows = []
        for values, wanted in zip(self.values, targets, strict=True):
            match = (values == wanted[:, None]) & self.visible
            rows.append(torch.where(match, at, -1).amax(1) if len(at) else wanted * 0 - 1)
        return torch.stack(rows)

    @cached_property
    def last_target(self) -> Tensor:
        """(W, T) `last` of the targets."""
        return self.last(self.targets)

    @cached_property
    def ranked(self) -> Tensor:
        """(W, T) True for the predictions whose target is in the memory."""
        return self.last_target >= 0

    @cached_property
    def slots(self) -> Tensor:
        """(W, M) the values of each window as numbers from 0, equal for equal tokens."""
        return torch.stack([values.unique(return_inverse=True)[1] for values in self.values])

    @cached_property
    def target_slot(self) -> Tensor:
        """(W, T) the slot of each target; without meaning where it is not in the memory."""
        if not self.slots.shape[1]:
            return torch.zeros_like(self.targets)
        return self.slots.gather(1, self.last_target.clamp_min(0))

    def elsewhere(self) -> Tensor | None:
        """(W, T) how often the targets of other documents, at the same places, are in the memory.

        Mean over the next `OTHERS` windows of another document, in turns; of another window where
        all come from one document; None from one window.
        """
        num_windows = len(self.document)
        if num_windows == 1:
            return None
        one = len(self.document.unique()) == 1
        partners = []
        for w in range(num_windows):
            others = [(w + k) % num_windows for k in range(1, num_windows)]
            partners.append([v for v in others if one or self.document[v] != self.document[w]])
        found = torch.zeros(self.targets.shape, dtype=torch.float64)
        counts = torch.tensor([min(len(others), OTHERS) for others in partners])
        for turn in range(int(counts.max())):
            chosen = torch.tensor([others[turn % len(others)] for others in partners])
            hit = self.last(self.targets[chosen]) >= 0
            found += hit * (turn < counts)[:, None]
        return found / counts[:, None]
