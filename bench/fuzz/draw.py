"""Cases by name: each change of the tables once, or drawn from a seed."""

import math
from collections.abc import Iterator
from random import Random

from bench.fuzz.bytes_at_random import at_random
from bench.fuzz.case import EITHER, Case, Format
from bench.fuzz.tables import FORMATS

OF_TABLES, DRAWN = 400, 60
"""How many cases of the tables, and how many drawn ones, the test suite runs."""


def good() -> Iterator[Case]:
    """Every command on the files as they are: it must succeed, or the corpus tests nothing."""
    for form in FORMATS.values():
        for name, command in form.commands.items():
            if command.needs_good:
                yield Case(
                    f"{form.name}/good/{name}", form.name, form.seed, command, (), "measured"
                )


def tables() -> Iterator[Case]:
    """Every change of every table, under every command that it names."""
    for form in FORMATS.values():
        for mutation in form.mutations:
            for command in mutation.commands or (next(iter(form.commands)),):
                yield Case(
                    f"{form.name}/{mutation.name}/{command}",
                    form.name,
                    form.seed,
                    form.commands[command],
                    ((mutation.name, mutation.change),),
                    mutation.expects,
                    mutation.slow,
                )


def corpus() -> list[Case]:
    """The cases of the test suite: of every table its share, and some drawn ones."""
    every = [case for case in tables() if not case.slow]
    Random(0).shuffle(every)
    share = OF_TABLES / len(every)
    taken: list[Case] = []
    for form in FORMATS:
        mine = [case for case in every if case.format == form]
        taken += mine[: math.ceil(share * len(mine))]
    return taken + [drawn(0, number) for number in range(DRAWN)]


def drawn(seed: int, number: int) -> Case:
    """The case of a number: one to three changes of a table, or bytes at random, or both."""
    draw = Random(f"wideneck {seed} {number}")
    # Without files there is one command for each change, and no other makes sense with it.
    form = draw.choice([form for form in FORMATS.values() if form.files])
    named = _some(form, draw)
    command = draw.choice(list(form.commands))
    changes = [(mutation.name, mutation.change) for mutation in named]
    if not changes or draw.random() < 0.3:
        changes.append(("bytes", at_random(form.files)))
    return Case(
        str(number),
        form.name,
        form.seed,
        form.commands[command],
        tuple(changes),
        EITHER,
        stream=draw.getrandbits(63),
        said=f"{form.name}/{'+'.join(name for name, _ in changes)}/{command}",
    )


def _some(form: Format, draw: Random) -> list:
    if draw.random() < 0.5:
        return []
    return draw.choices(form.mutations, k=draw.choice((1, 2, 2, 3)))
