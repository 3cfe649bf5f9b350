"""What a task gives of one model from one seed: how it is trained, read, and made to write."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from wideneck.lab.jobs import Show
from wideneck.lab.tasks.seen import Seen


@dataclass(frozen=True)
class Measured:
    """Measures of texts, by name."""

    each: dict[str, list[float | None]]
    """Of every text; None where a measure has nothing to say of one."""
    whole: dict[str, float] = field(default_factory=dict)
    """Of all texts together."""


class Trial(Protocol):
    """One model with its data.  The seed has decided its start, its order of data and its draws."""

    model: Any
    """Of transformers, with a memory."""
    documents: list[int]
    """What each row of `seen("test")` is from: intervals take these as independent."""
    subjects: list[int]
    """The same of each text that is written."""

    cut: dict[str, int]
    """By split, documents that are longer than what the model reads or writes of them."""

    def train(self, folder: Path, show: Show) -> None:
        """Train in place; started again it goes on from the last checkpoint in the folder.

        Raises:
            WideneckError: the loss is no longer finite.
        """

    def seen(self, split: str) -> Seen:
        """The documents of "valid" or "test", read with their labels in evaluation mode.

        So the memory's statistics have counted them.
        """

    def rows(self) -> tuple[Tensor, Tensor]:
        """(N, V) log-probabilities of the mixture and of the output layer alone, on test text."""

    def write(self) -> list[str]:
        """A text for each test document, and for each seed of decoding, by the model as it is."""

    def measured(self, texts: list[str]) -> Measured:
        """The measures of such texts."""

    def beside(self) -> dict[str, Measured]:
        """The measures of texts that no model wrote, by what they are; "reference" among them."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A task that is set up."""

    settings: dict[str, Any]
    """All that its runs share, as JSON can hold it."""
    begin: Callable[[str, int], Trial]
    """A trial of an objective, by name, from a seed."""
    processes: int | None
    """As for `wideneck.lab.jobs.side_by_side`."""
