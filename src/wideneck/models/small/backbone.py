"""What a small language model is below its head: from token ids to the vectors that a head reads.

Shapes: B sequences, T tokens, D hidden_size, E width of the embedding, V vocab_size.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """What a backbone makes of B sequences of T tokens."""

    hidden: Tensor
    """(B, T, D): what the head reads; in training with the last dropout."""
    raw: Tensor
    """(B, T, D): the same before that dropout."""
    state: list[Tensor]
    """What the next segment starts from, attached to the graph; [] where nothing is carried."""


class Backbone(nn.Module, ABC):
    """A language model without its output layer.

    Every dropout acts by the module's training mode alone, and draws from torch's default
    generator.
    """

    hidden_size: int
    """D."""
    context: int | None
    """None: a state is carried through segments of any length.  Else each window of at most so
    many tokens is read by itself."""

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """The input embedding, (V, E)."""

    @abstractmethod
    def forward(self, ids: Tensor, state: list[Tensor] | None = None) -> Output:
        """Read tokens.

        Args:
            ids: (B, T) int64.
            state: that of the segment before; None or [] at the start of a text.
        """

    @abstractmethod
    def penalty(self, output: Output) -> Tensor:
        """What training adds to the mean loss for the sake of these activations, a scalar."""
