"""A head in the place of a model's output layer, where it also computes the loss.

The model calls its output layer deep inside its forward; that call is the only place where
FSDP2 has gathered the layer's weights.  So the labels are left for the head to find, and it
leaves the loss: a `Call`, one for each forward of the model.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor, nn

from wideneck.functional.items import per_item
from wideneck.heads.head import Head


class Call(ABC):
    """What one forward of a model asks of its head, and what the head answers."""

    head: nn.Module
    """Whose call it is: a head leaves the calls of others alone."""

    @abstractmethod
    def answer(self, head: Any, hidden: Tensor) -> Tensor:
        """What stands in the place of the logits; everything else is left on the call."""


@final
@dataclass
class HeadCall(Call):
    """Asks for the loss, the log-probabilities or both."""

    head: nn.Module
    target: Tensor | None
    """Token ids (B, T), already shifted; None for no loss."""
    num_items: Any
    """What the sum of losses is divided by; None for the number of targets."""
    ignore_index: int
    wants_logits: bool
    loss: Tensor | None = None
    log_probs: Tensor | None = None

    def answer(self, head: Any, hidden: Tensor) -> Tensor:
        """Log-probabilities (..., V), or (0, ..., V) where only a loss is asked for."""
        if self.target is not None:
            self.loss = _loss(head, hidden, self)
        if not self.wants_logits:
            return without_logits(head, hidden)
        self.log_probs = head.log_probs(hidden)
        return self.log_probs


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
        """Log-probabilities (..., V), or whatever the call of the model has it answer."""
        call = _current.call
        if call is None or call.head is not self:
            return self.log_probs(hidden)
        return call.answer(self, hidden)

    def __reduce__(self):
        return _blank, (type(self).__bases__[-1],), vars(self)


@cache
def in_model(head_class: type[Head]) -> Any:
    """The class of a head that stands in a model."""
    return type(head_class.__name__, (HeadInModel, head_class), {"__module__": __name__})


def shifted(labels: Tensor, ignore_index: int) -> Tensor:
    """Position t predicts the label of position t + 1; the last one predicts nothing."""
    return F.pad(labels, (0, 1), value=ignore_index)[..., 1:]


def without_logits(head: Any, hidden: Tensor) -> Tensor:
    """(0, ..., V), what the model may pass on as its logits where nobody asks for them.

    Of no sequence, but as wide as the vocabulary: BART adds a vector of V to it.
    """
    return hidden.new_empty(0, *hidden.shape[1:-1], head.vocab_size)


def _loss(head: Any, hidden: Tensor, call: HeadCall) -> Tensor:
    """The mean over the targets, or the sum over `num_items`, as transformers defines it."""
    assert call.target is not None
    target = call.target.to(hidden.device)
    reduction = "mean" if call.num_items is None else "sum"
    loss = head.nll(hidden, target, reduction=reduction, ignore_index=call.ignore_index)
    return loss if call.num_items is None else per_item(loss, call.num_items)


def _blank(head_class: type[Head]) -> Any:
    made = in_model(head_class)
    return made.__new__(made)
