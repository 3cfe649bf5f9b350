"""What a case is: a good folder, changes to its files, and a command line that reads them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

Change = Callable[[Path, Random], object]
"""Edits the files of a copy of a good folder; the numbers that it needs are drawn."""

EITHER, REFUSED, MEASURED = "either", "refused", "measured"
"""What may come: a refusal or a report, and where it is certain, which of them."""


@dataclass(frozen=True)
class Command:
    """A command line of wideneck, run in the folder of the case."""

    argv: tuple[str, ...]
    makes: tuple[str, ...] = ()
    """Files that are there after a success and not after a refusal."""
    works_in: tuple[str, ...] = ()
    """Folders that it may change, whatever comes."""
    needs_good: bool = True
    """Whether it must succeed on the unchanged folder; a check of the corpus itself."""


@dataclass(frozen=True)
class Mutation:
    """One telling change."""

    name: str
    change: Change
    expects: str
    commands: tuple[str, ...]
    """Names in the format's commands."""
    slow: bool = False
    """Too much work for the test suite."""


def under(*commands: str) -> Callable[..., list[Mutation]]:
    """What makes a row of a table: a change under each of these commands."""

    def row(name: str, change: Change, expects: str = REFUSED, slow: bool = False):
        return [Mutation(name, change, expects, (command,), slow) for command in commands]

    return row


head, whole, both = under("head"), under("evaluate"), under("head", "evaluate")
"""Rows for the audit of the output layer, for what reads every tensor, and for both."""


def loosely(name: str, change: Change) -> list[Mutation]:
    """Wrong for the whole model; the audit of the head may not see it."""
    return [*head(name, change, EITHER), *whole(name, change)]


@dataclass(frozen=True)
class Format:
    """A kind of file, the good folder that holds one, and what can be done to it."""

    name: str
    seed: str
    """The good folder's name."""
    commands: dict[str, Command]
    files: tuple[str, ...]
    """Patterns of the files whose bytes are changed at random."""
    mutations: Sequence[Mutation]


@dataclass(frozen=True)
class Case:
    """One child's work."""

    name: str
    """What `python -m bench fuzz --case` repeats it by."""
    format: str
    seed: str
    command: Command
    changes: tuple[tuple[str, Change], ...]
    expects: str = EITHER
    slow: bool = False
    stream: int = 0
    """Seed of the numbers that the changes draw."""
    said: str = field(default="", compare=False)
    """What the changes are, in words."""

    @property
    def title(self) -> str:
        return self.said or self.name
