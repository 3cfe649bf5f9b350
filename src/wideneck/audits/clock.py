"""Where the time of an audit goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Wall-clock seconds of each step, in the order in which they ended."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time the body; a step that comes again adds up."""
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self.seconds[step] = round(self.seconds.get(step, 0.0) + spent, 3)
