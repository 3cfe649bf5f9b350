"""Tables with a sentence to be written about each, in splits that share no name."""

import random
from collections.abc import Iterator

from wideneck.lab.tasks.pairs import Pair, Pairs
from wideneck.lab.tasks.statements import KINDS, sentence
from wideneck.lab.tasks.tables import Table, all_names, tables

SENTENCES = 4
"""About each table."""


def table_pairs(seed: int, train: int, valid: int, test: int) -> Pairs:
    """Sources are tables as text, and before them which kind of sentence about which measure.

    Without that a model could keep to the kinds that are easily true.

    Args:
        seed: of the names, the tables and the sentences.
        train, valid, test: how many pairs; fewer where the names run out.
    """
    names, rng = iter(all_names(seed)), random.Random(seed)
    # The splits take names from one iterator, so none is in two of them.
    asked, held_out, rest = (list(_pairs(names, rng, n)) for n in (test, valid, train))
    counts = {"train": len(rest), "valid": len(held_out), "test": len(asked)}
    return Pairs(name="tables", counts=counts, train=rest, valid=held_out, test=asked)


def _pairs(names: Iterator[str], rng: random.Random, number: int) -> Iterator[Pair]:
    made = 0
    for table in tables(rng, names):
        for kind in rng.sample(KINDS, SENTENCES):
            if made == number:
                return
            measure = rng.choice(table.domain.measures)
            made += 1
            yield Pair(
                source=f"{kind.name} {measure} | {table.text()}",
                target=sentence(table, kind, measure, rng),
                table=table,
                origin=table.rows[0].name,  # which no other table has
            )


def names_of(table: Table) -> set[str]:
    """Names of things and of groups."""
    return {word for row in table.rows for word in (row.name, row.group)}
