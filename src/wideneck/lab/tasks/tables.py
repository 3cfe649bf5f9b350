"""Tables to be described: made up, so no model has read them and every sentence can be checked.

A table has some rows, each with a name, a group and two numbers.  No name and no group stands in
tables of two splits: a model cannot know them, it has to take them from the table.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

ROWS = (3, 5)
"""Fewest and most."""
GROUPS = 2
NUMBERS = range(2, 122, 2)
"""Even ones, so that no difference is "1 more points"; no column has one twice, so nothing ties."""


@dataclass(frozen=True)
class Domain:
    """What a table is about."""

    things: str
    preposition: str
    measures: tuple[str, str]


DOMAINS = (
    Domain("clubs", "from", ("points", "players")),
    Domain("towns", "in", ("schools", "bridges")),
    Domain("ships", "from", ("cabins", "sailors")),
    Domain("farms", "in", ("horses", "fields")),
    Domain("islands", "in", ("villages", "harbours")),
    Domain("museums", "in", ("rooms", "visitors")),
)


@dataclass(frozen=True)
class Row:
    """One thing: its two numbers are those of its domain's measures."""

    name: str
    group: str
    numbers: tuple[int, int]


@dataclass(frozen=True)
class Table:
    """Some things of one kind."""

    domain: Domain
    rows: tuple[Row, ...]

    def column(self, measure: str) -> dict[str, int]:
        """The number of each name."""
        at = self.domain.measures.index(measure)
        return {row.name: row.numbers[at] for row in self.rows}

    def groups(self) -> dict[str, list[str]]:
        """The names in each group."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row.name)
        return found

    def text(self) -> str:
        """Row by row, with the rank of each number in its column and the sum of each column.

        The ranks and sums are given as the serialization of LogicNLG in Wan et al. 2023 gives
        them (after PLOG): a maximum is then read off, not computed.
        """
        parts = [f"table {self.domain.things}"]
        columns = {measure: self.column(measure) for measure in self.domain.measures}
        for row in self.rows:
            parts.append(f"{row.name} {self.domain.preposition} {row.group}")
            for measure, column in columns.items():
                rank = 1 + sum(other > column[row.name] for other in column.values())
                parts.append(f"{measure} {column[row.name]} rank {rank}")
        parts += [f"all {measure} {sum(column.values())}" for measure, column in columns.items()]
        return " | ".join(parts)


def tables(rng: random.Random, names: Iterator[str]) -> Iterator[Table]:
    """Tables without end, or as long as there are names.

    Args:
        rng: of everything but the names.
        names: each is used once, for a row or for a group.
    """
    while True:
        num_rows = rng.randint(*ROWS)
        try:
            groups = [next(names) for _ in range(GROUPS)]
            things = [next(names) for _ in range(num_rows)]
        except StopIteration:
            return
        numbers = [rng.sample(NUMBERS, num_rows) for _ in range(2)]
        rows = (
            Row(name, rng.choice(groups), pair)
            for name, pair in zip(things, zip(*numbers, strict=True), strict=True)
        )
        yield Table(rng.choice(DOMAINS), tuple(rows))


ONSETS = "b br d dr f g gl h j k kr l m n p pr r s st t tr v w z".split()
VOWELS = "a e i o u ai ea ou".split()
CODAS = ["", *"k l m n r s th x".split()]


def all_names(seed: int) -> list[str]:
    """Some 330,000 names of two syllables, in an order by seed.

    Fewer, Have, More and Total are among them: their capital tells them from other words.
    """
    syllables = ["".join(parts) for parts in product(ONSETS, VOWELS)]
    found = [
        (first + second + coda).capitalize()
        for first, second, coda in product(syllables, syllables, CODAS)
    ]
    found = sorted(set(found))
    random.Random(seed).shuffle(found)
    return found
