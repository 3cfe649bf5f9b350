"""Sums of stored bytes: what is read is what was written, or it is refused.

XXH3 in 128 bits: it finds every flipped bit and every lost byte that a disk or a copy makes, at the
speed of memory (`python -m bench train resume` prints it); it is no proof against a person who
forges a file.
"""

import time
from collections.abc import Callable
from typing import final

import xxhash

BLOCK = 2**24
"""Bytes between two looks at the clock."""
QUICK = 1.0
"""Seconds in which nobody asks how far reading is."""


@final
class Watch:
    """Tells how far reading is, once it takes longer than a second.

    Args:
        progress: called as progress(stage, done, total).
        stage: what is read.
        total: its bytes.
    """

    def __init__(self, progress: Callable[[str, int, int], None] | None, stage: str, total: int):
        self.progress, self.stage, self.total = progress, stage, total
        self.done, self.begun = 0, time.monotonic()

    def __call__(self, num_bytes: int) -> None:
        """That many more bytes are read."""
        self.done += num_bytes
        if self.progress is not None and time.monotonic() - self.begun > QUICK:
            self.progress(self.stage, self.done, self.total)


def sum_of(data: bytes | memoryview, label: str = "", watch: Watch | None = None) -> str:
    """The sum of bytes, and of what they are said to be, as 32 hexadecimal digits.

    Args:
        data: bytes, in one piece.
        label: such as the shape of an array; part of the sum.
        watch: told of every block.
    """
    found = xxhash.xxh3_128(label.encode())
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        found.update(block)
        if watch is not None:
            watch(len(block))
    return found.hexdigest()
