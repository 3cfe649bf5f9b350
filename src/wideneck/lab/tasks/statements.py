"""Sentences about a table that are true of it, and the checker that tells true ones from false.

A sentence is well-formed if it is one of eight kinds, after LogicNLG's (Chen et al. 2020): values,
counts, sums, maxima, comparisons and differences.  Whether a well-formed sentence is true follows
from the table: there is nothing to be judged.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from wideneck.lab.tasks.tables import Table

NAME, NUMBER, WORD = r"([A-Z][a-z]+)", r"(\d+)", r"([a-z]+)"


@dataclass(frozen=True)
class Kind:
    """One kind of sentence."""

    name: str
    form: str
    """With a place for each slot, in order."""
    slots: tuple[str, ...]
    draw: Callable[[Table, str, random.Random], tuple[str, ...]]
    """Slots of a sentence about a measure that is true."""
    holds: Callable[..., bool]
    """Whether it is true, given the table and the slots; KeyError and ValueError: of something
    that the table has not."""

    def pattern(self) -> re.Pattern[str]:
        """What a sentence of this kind matches."""
        return re.compile(re.escape(self.form).replace(r"\{\}", "{}").format(*self.slots))


@dataclass(frozen=True)
class Judged:
    """What the checker says of a sentence."""

    kind: str | None
    """Of a well-formed sentence."""
    true: bool


def sentence(table: Table, kind: Kind, measure: str, rng: random.Random) -> str:
    """A true one."""
    return kind.form.format(*kind.draw(table, measure, rng))


def judge(text: str, table: Table) -> Judged:
    """Decide on a sentence, spaces around it aside.

    A sentence with a name, a group or a measure that is not in the table is false, and so is one
    that calls the things by another name.
    """
    for kind in KINDS:
        match = kind.pattern().fullmatch(text.strip())
        if match is not None:
            try:
                return Judged(kind.name, kind.holds(table, *match.groups()))
            except (KeyError, ValueError):
                return Judged(kind.name, False)
    return Judged(None, False)


def _two(table: Table, rng: random.Random) -> list[str]:
    return rng.sample([row.name for row in table.rows], 2)


def _draw_value(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    name = rng.choice(table.rows).name
    return name, str(table.column(measure)[name]), measure


def _draw_difference(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    one, other = _two(table, rng)
    apart = table.column(measure)[one] - table.column(measure)[other]
    return one, str(abs(apart)), "more" if apart > 0 else "fewer", measure, other


def _draw_comparison(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    one, _, which, _, other = _draw_difference(table, measure, rng)
    return one, which, measure, other


def _draw_extreme(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    which = rng.choice(("most", "fewest"))
    return _extreme(table, which, measure), which, measure


def _draw_threshold(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    column = sorted(table.column(measure).values())
    limit = rng.choice(column[:-1])
    return table.domain.things, str(limit), measure, str(sum(x > limit for x in column))


def _draw_count(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    group, names = rng.choice(list(table.groups().items()))
    return table.domain.things, table.domain.preposition, group, str(len(names))


def _draw_sum(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    group, names = rng.choice(list(table.groups().items()))
    total = sum(table.column(measure)[name] for name in names)
    return table.domain.things, table.domain.preposition, group, str(total), measure


def _draw_total(table: Table, measure: str, rng: random.Random) -> tuple[str, ...]:
    return table.domain.things, str(sum(table.column(measure).values())), measure


def _extreme(table: Table, which: str, measure: str) -> str:
    column = table.column(measure)
    return (max if which == "most" else min)(column, key=column.__getitem__)


def _about(table: Table, things: str, preposition: str | None = None) -> bool:
    domain = table.domain
    return things == domain.things and preposition in (None, domain.preposition)


def _apart(table: Table, one: str, which: str, measure: str, other: str) -> int:
    apart = table.column(measure)[one] - table.column(measure)[other]
    return apart if which == "more" else -apart


KINDS = (
    Kind(
        "value",
        "{} has {} {}.",
        (NAME, NUMBER, WORD),
        _draw_value,
        lambda t, name, number, measure: t.column(measure)[name] == int(number),
    ),
    Kind(
        "difference",
        "{} has {} {} {} than {}.",
        (NAME, NUMBER, "(more|fewer)", WORD, NAME),
        _draw_difference,
        lambda t, one, number, *rest: 0 < int(number) == _apart(t, one, *rest),
    ),
    Kind(
        "comparison",
        "{} has {} {} than {}.",
        (NAME, "(more|fewer)", WORD, NAME),
        _draw_comparison,
        lambda t, one, *rest: _apart(t, one, *rest) > 0,
    ),
    Kind(
        "extreme",
        "{} has the {} {}.",
        (NAME, "(most|fewest)", WORD),
        _draw_extreme,
        lambda t, name, *rest: _extreme(t, *rest) == name,
    ),
    Kind(
        "threshold",
        "The number of {} with more than {} {} is {}.",
        (WORD, NUMBER, WORD, NUMBER),
        _draw_threshold,
        lambda t, things, limit, measure, number: (
            _about(t, things)
            and sum(x > int(limit) for x in t.column(measure).values()) == int(number)
        ),
    ),
    Kind(
        "count",
        "The number of {} {} {} is {}.",
        (WORD, WORD, NAME, NUMBER),
        _draw_count,
        lambda t, things, preposition, group, number: (
            _about(t, things, preposition) and len(t.groups()[group]) == int(number)
        ),
    ),
    Kind(
        "sum",
        "The {} {} {} have {} {} together.",
        (WORD, WORD, NAME, NUMBER, WORD),
        _draw_sum,
        lambda t, things, preposition, group, number, measure: (
            _about(t, things, preposition)
            and sum(t.column(measure)[name] for name in t.groups()[group]) == int(number)
        ),
    ),
    Kind(
        "total",
        "All {} have {} {}.",
        (WORD, NUMBER, WORD),
        _draw_total,
        lambda t, things, number, measure: (
            _about(t, things) and sum(t.column(measure).values()) == int(number)
        ),
    ),
)
