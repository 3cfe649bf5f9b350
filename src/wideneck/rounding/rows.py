"""Rows of a matrix a few at a time, so that nothing beside it is of its size."""

from collections.abc import Iterator

BLOCK = 2**19
"""Numbers at a time."""
ALIGNED = 128
"""Rows at a time are a multiple of it, so that no block of rows is cut."""


def row_ranges(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Consecutive ranges of rows, of some `BLOCK` numbers each."""
    step = max(1, BLOCK // max(1, num_columns * ALIGNED)) * ALIGNED
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
