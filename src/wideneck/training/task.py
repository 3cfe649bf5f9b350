"""What is trained: a model, its batches, and the text that it is judged by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from wideneck.training.batches import Batch, Batches


@dataclass(frozen=True)
class Observation:
    """What else is measured on the way, on one process; it goes into the metrics."""

    steps: frozenset[int]
    """After which steps; 0 is before the first."""
    measure: Callable[[nn.Module], dict[str, Any]]
    """Reads the model and nothing random, so that a run observed trains like one that is not."""


@dataclass(frozen=True)
class Task:
    """Everything that the loop needs to know."""

    model: nn.Module
    """Called as model(input, target, state); returns a `Step` of wideneck.models.small."""
    batches: Batches
    valid: Sequence[Batch]
    about: dict[str, Any] = field(default_factory=dict)
    """What a checkpoint must agree in, such as the vocabulary's hash; goes into the result."""
    described: dict[str, Any] = field(default_factory=dict)
    """What the file of the weights says beside that."""
    test: Sequence[Batch] | None = None
    """What the best model is measured on at the end; None for nothing."""
    observe: Observation | None = None
