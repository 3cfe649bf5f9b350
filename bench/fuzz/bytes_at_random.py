"""Bytes of a file changed at random: flips, cuts, inserts, copies, numbers."""

import struct
from pathlib import Path
from random import Random

from bench.fuzz.case import Change

NUMBERS = (0, 1, 7, 2**7, 2**8 - 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
DIGITS = (b"0", b"-1", b"1e308", b"NaN", b"18446744073709551616", b"1e999", b'""', b"[]", b"null")


def at_random(patterns: tuple[str, ...]) -> Change:
    """One file of these patterns, changed in one to four places."""

    def change(folder: Path, draw: Random) -> None:
        found = sorted(p for pattern in patterns for p in folder.glob(pattern) if p.is_file())
        if not found:
            return
        path = draw.choice(found)
        data = bytearray(path.read_bytes())
        for _ in range(draw.choice((1, 1, 2, 4))):
            draw.choice(WAYS)(data, _place(data, draw), draw)
        path.unlink()
        path.write_bytes(data)

    return change


def _place(data: bytearray, draw: Random) -> int:
    """More often near the start, where headers are."""
    end = len(data)
    return draw.randrange(max(1, draw.choice((end, end, min(end, 64), min(end, 2048)))))


def _flip(data: bytearray, at: int, draw: Random) -> None:
    if data:
        data[at] ^= 1 << draw.randrange(8)


def _byte(data: bytearray, at: int, draw: Random) -> None:
    if data:
        data[at] = draw.randrange(256)


def _cut(data: bytearray, at: int, draw: Random) -> None:
    del data[at:]


def _drop(data: bytearray, at: int, draw: Random) -> None:
    del data[at : at + draw.choice((1, 2, 8, 64))]


def _insert(data: bytearray, at: int, draw: Random) -> None:
    data[at:at] = draw.randbytes(draw.choice((1, 4, 8, 200)))


def _copy(data: bytearray, at: int, draw: Random) -> None:
    size = draw.choice((1, 8, 64))
    data[at:at] = data[at : at + size]


def _number(data: bytearray, at: int, draw: Random) -> None:
    number = draw.choice(NUMBERS)
    form = draw.choice(("<Q", "<I", "<H", ">Q"))
    size = struct.calcsize(form)
    data[at : at + size] = struct.pack(form, number % 256**size)


def _digits(data: bytearray, at: int, draw: Random) -> None:
    """A number of a text, by another."""
    start = at
    while start < len(data) and not chr(data[start]).isdigit():
        start += 1
    end = start
    while end < len(data) and chr(data[end]).isdigit():
        end += 1
    data[start:end] = draw.choice(DIGITS)


def _zeros(data: bytearray, at: int, draw: Random) -> None:
    size = min(draw.choice((1, 8, 512)), len(data) - at)
    data[at : at + size] = bytes(size)


WAYS = (_flip, _flip, _byte, _cut, _drop, _insert, _copy, _number, _digits, _zeros)
