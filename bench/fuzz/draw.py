"""Every format, and cases by name: each change of the tables once, or drawn from a seed."""

import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

from bench.fuzz.case import EITHER, MEASURED, Case, Change, Format
from bench.fuzz.configs import CONFIGS
from bench.fuzz.ggufs import GGUFS
from bench.fuzz.pickles import PICKLES
from bench.fuzz.recipes import RECIPES
from bench.fuzz.runs import OWN
from bench.fuzz.saved import SAVED
from bench.fuzz.series import FOLDERS
from bench.fuzz.tensors import TENSORS
from bench.fuzz.texts import TEXTS
from bench.fuzz.vocabularies import TOKENIZERS

_TABLES = (CONFIGS, TENSORS, GGUFS, PICKLES, TOKENIZERS, TEXTS, RECIPES, SAVED, OWN, FOLDERS)
FORMATS: dict[str, Format] = {form.name: form for table in _TABLES for form in table}
"""Name -> format, with its table of telling changes."""
NUMBERS = (0, 1, 7, 2**7, 2**8 - 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
DIGITS = (b"0", b"-1", b"1e308", b"NaN", b"18446744073709551616", b"1e999", b'""', b"[]", b"null")
OF_TABLES, DRAWN = 400, 60
"""How many cases of the tables, and how many drawn ones, the test suite runs."""


def good() -> Iterator[Case]:
    """Every command on the files as they are: it must succeed, or the corpus tests nothing."""
    for form in FORMATS.values():
        for name, command in form.commands.items():
            if command.needs_good:
                case = f"{form.name}/good/{name}"
                yield Case(case, form.name, form.seed, command, (), MEASURED)


def tables() -> Iterator[Case]:
    """Every change of every table, under every command that it names."""
    for form in FORMATS.values():
        for mutation in form.mutations:
            for command in mutation.commands:
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
    named = []
    if draw.random() >= 0.5:
        named = draw.choices(form.mutations, k=draw.choice((1, 2, 2, 3)))
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


def at_random(patterns: tuple[str, ...]) -> Change:
    """The bytes of one file of these patterns, changed in one to four places."""

    def change(folder: Path, draw: Random) -> None:
        found = sorted(p for pattern in patterns for p in folder.glob(pattern) if p.is_file())
        if not found:
            return
        path = draw.choice(found)
        data = path.read_bytes()
        for _ in range(draw.choice((1, 1, 2, 4))):
            way, end = draw.choice(_WAYS), len(data)
            # More often near the start, where headers are.
            at = draw.randrange(max(1, draw.choice((end, end, min(end, 64), min(end, 2048)))))
            data = data[:at] + way(data[at:], draw)
        path.unlink()
        path.write_bytes(data)

    return change


def _flip(old: bytes, draw: Random) -> bytes:
    return old and bytes([old[0] ^ 1 << draw.randrange(8)]) + old[1:]


def _number(old: bytes, draw: Random) -> bytes:
    number, form = draw.choice(NUMBERS), draw.choice(("<Q", "<I", "<H", ">Q"))
    size = struct.calcsize(form)
    return struct.pack(form, number % 256**size) + old[size:]


def _digits(old: bytes, draw: Random) -> bytes:
    """A number of a text, by another."""
    new = draw.choice(DIGITS)
    return re.sub(rb"\d+|\Z", lambda _: new, old, count=1)


def _zeros(old: bytes, draw: Random) -> bytes:
    size = min(draw.choice((1, 8, 512)), len(old))
    return bytes(size) + old[size:]


_WAYS = (
    _flip,
    _flip,
    lambda old, draw: old and bytes([draw.randrange(256)]) + old[1:],
    lambda old, draw: b"",
    lambda old, draw: old[draw.choice((1, 2, 8, 64)) :],
    lambda old, draw: draw.randbytes(draw.choice((1, 4, 8, 200))) + old,
    lambda old, draw: old[: draw.choice((1, 8, 64))] + old,
    _number,
    _digits,
    _zeros,
)
"""What becomes of the bytes from a place on."""
