"""Pairs of a source and a target, in three splits."""

import hashlib
from dataclasses import dataclass

from wideneck.errors import WideneckError
from wideneck.lab.tasks.tables import Table


@dataclass(frozen=True)
class Pair:
    """What is read, and what is to be written."""

    source: str
    target: str
    table: Table | None = None
    """What the source says, where a checker can tell true targets from false ones."""
    origin: str = ""
    """What it shares with others that it is not independent of: a module, a table; "" for none."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A task's data."""

    name: str
    counts: dict[str, int]
    """Pairs of each place that they come from."""
    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    marks: tuple[str, ...] = ()
    """What stands in sources as one token each, which a tokenizer is to be given."""

    @property
    def sha256(self) -> str:
        """Of all texts and of which split each is in."""
        found = hashlib.sha256()
        for split in (self.train, self.valid, self.test):
            for pair in split:
                for text in (pair.source, pair.target):
                    found.update(text.encode("utf-8", "surrogatepass") + b"\0")
            found.update(b"\1")
        return found.hexdigest()


def of_splits(
    name: str,
    splits: dict[str, list[Pair]],
    counts: dict[str, int],
    marks: tuple[str, ...] = (),
) -> Pairs:
    """Pairs that somebody named.

    Raises:
        WideneckError: a split is empty.
    """
    for split, pairs in splits.items():
        if not pairs:
            raise WideneckError(
                f"{name} ({split} split) holds no pair of a source and a target: give data with "
                "some in each split."
            )
    return Pairs(name=name, counts=counts, marks=marks, **splits)
