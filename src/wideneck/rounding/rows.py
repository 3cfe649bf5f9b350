"""Rows of a matrix a few at a time, so that nothing beside it is of its size."""

from collections.abc import Iterator

BLOCK = 2**19
"""Numbers at a time."""
TALL = 2**22
"""Numbers at a time where columns are worked through one after another."""
ALIGNED = 128
"""Rows at a time are a multiple of it, so that no block of rows is cut."""


def row_ranges(num_rows: int, num_columns: int, block: int = BLOCK) -> Iterator[slice]:
    """Consecutive ranges of rows, of some `block` numbers each."""
    step = max(1, block // max(1, num_columns * ALIGNED)) * ALIGNED
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
