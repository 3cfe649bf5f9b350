"""What a model with a memory asks of its head: all that needs the output matrix, and no more."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck.attached.head_in_model import Call, without_logits

SAMPLE = 32
"""Targets of a training batch whose predictions are looked at: all would cost a product more."""


@final
@dataclass
class MemoryCall(Call):
    """Asks for one loss per target, and for distributions where they are wanted."""

    LEFT = ("nll", "log_normalizer", "log_probs", "kept_log_normalizer")
    head: nn.Module
    target: Tensor | None
    """(B, Q), token ids or `ignore_index`; None for no loss."""
    ignore_index: int
    keep: Any
    """Index of the positions whose log-probabilities are wanted, or None for none."""
    wants_normalizer: bool
    hidden: Tensor | None = None
    """(B, Q, D), what entered the head."""
    nll: Tensor | None = None
    """(B, Q)."""
    log_normalizer: Tensor | None = None
    """(B, Q), of the targets that are not ignored."""
    log_probs: Tensor | None = None
    """(B, kept, V)."""
    kept_log_normalizer: Tensor | None = None
    """(B, kept)."""
    sample: tuple[Tensor, ...] = ()
    """Sequence and position of some targets."""
    sampled: Tensor | None = None
    """(S,), False where there are fewer targets than places."""
    sample_log_probs: Tensor | None = None
    """(S, V), there."""

    def answer(self, head: Any, hidden: Tensor) -> Tensor:
        """Everything is left on the call; there are no logits yet."""
        self.hidden = hidden
        if self.target is not None:
            self.target = self.target.to(hidden.device)
            nll, log_normalizer = head.nll_and_log_normalizer(
                hidden, self.target, ignore_index=self.ignore_index
            )
            self.nll = nll
            self.log_normalizer = log_normalizer if self.wants_normalizer else None
        if self.keep is not None:
            kept = hidden[:, self.keep]
            self.log_probs = head.log_probs(kept)
            if self.wants_normalizer:
                anything = kept.new_zeros(kept.shape[:-1], dtype=torch.long)
                _, self.kept_log_normalizer = head.nll_and_log_normalizer(kept, anything)
        elif self.target is not None:
            with torch.no_grad():
                self._look(head, hidden)
        return self.leave(without_logits(head, hidden))

    def _look(self, head: Any, hidden: Tensor) -> None:
        assert self.target is not None
        # Spread evenly over the targets; how many there are is not waited for.
        order = (self.target != self.ignore_index).flatten().cumsum(0)
        size, count = min(SAMPLE, len(order)), order[-1:]
        number = torch.arange(size, device=order.device)
        last = count.clamp(max=size) - 1
        self.sampled = number <= last
        place = (number * (count - 1) / last.clamp(min=1)).round().long()
        at = torch.searchsorted(order, place + 1).clamp(max=len(order) - 1)
        self.sample = at // self.target.shape[1], at % self.target.shape[1]
        self.sample_log_probs = head.log_probs(hidden[self.sample])
