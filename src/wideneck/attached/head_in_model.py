"""A head in the place of a model's output layer, where it also computes the loss.

The model calls its output layer deep inside its forward; that call is the only place where
FSDP2 has gathered the layer's weights.  So the labels are left for the head to find, and it
leaves the loss: a `Call`, one for each forward of the model.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from wideneck.heads.head import Head


@dataclass
class Call:
    """What one forward of a model asks of its head, and what the head answers."""

    head: nn.Module
    """Whose call it is: a head leaves the calls of others alone."""
    target: Tensor | None
    """Token ids (B, T), already shifted; None for no loss."""
    num_items: Any
    """What the sum of losses is divided by; None for the number of targets."""
    ignore_index: int
    wants_logits: bool
    loss: Tensor | None = None
    log_probs: Tensor | None = None


class _Current(threading.local):
    """A server may run one model in many threads, so each has a call of its own."""

    call: Call | None = None


_current = _Current()


@contextmanager
def answering(call: Call) -> Iterator[None]:
    """Inside, the head of the call answers it."""
    before = _current.call
    _current.call = call
    try:
        yield
    finally:
        _current.call = before


class HeadInModel(nn.Module):
    """Mixed into a head's class, in front of it."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        """Log-probabilities (..., V), or an empty (..., 0) where only a loss is asked for."""
        call = _current.call
        if call is None or call.head is not self:
            return self.log_probs(hidden)
        if call.target is not None:
            call.loss = _loss(self, hidden, call)
        if not call.wants_logits:
            return hidden.new_empty(*hidden.shape[:-1], 0)
        call.log_probs = self.log_probs(hidden)
        return call.log_probs

    def __reduce__(self):
        return _blank, (type(self).__bases__[-1],), vars(self)


@cache
def in_model(head_class: type[Head]) -> Any:
    """The class of a head that stands in a model."""
    return type(head_class.__name__, (HeadInModel, head_class), {"__module__": __name__})


def shifted(labels: Tensor, ignore_index: int) -> Tensor:
    """Position t predicts the label of position t + 1; the last one predicts nothing."""
    return F.pad(labels, (0, 1), value=ignore_index)[..., 1:]


def _loss(head: Any, hidden: Tensor, call: Call) -> Tensor:
    """The mean over the targets, or the sum over `num_items`, as transformers defines it."""
    assert call.target is not None
    target = call.target.to(hidden.device)
    reduction = "mean" if call.num_items is None else "sum"
    loss = head.nll(hidden, target, reduction=reduction, ignore_index=call.ignore_index)
    if call.num_items is None:
        return loss
    if isinstance(call.num_items, Tensor):  # at least 1: no targets are no loss, not NaN
        return loss / call.num_items.to(loss.device).clamp(min=1)
    return loss / max(1, call.num_items)


def _blank(head_class: type[Head]) -> Any:
    made = in_model(head_class)
    return made.__new__(made)
