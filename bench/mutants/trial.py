"""Tests in a child that is forked after the imports of other people's packages.

The process that forks must not have imported anything of ours: each child does so anew, with the
mutant in its place.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.fuzz.children import Job, run_all
from bench.fuzz.imports import import_listed, listing
from bench.mutants.mutant import Mutant
from bench.mutants.packages import SOURCE

OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
# A plugin that is imported before the fork is not rewritten; no test of ours asserts through one.
OPTIONS += ("-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(frozen=True)
class Outcome:
    """How the tests ended."""

    code: int
    """Of pytest: 0 where all passed."""
    timeout: bool
    seconds: float
    said: str


class Trials:
    """Runs of tests in `tree`, one at a time; what they print goes to `place`."""

    def __init__(self, tree: Path, place: Path):
        self.tree = tree
        self.output, self.errors = place / "stdout", place / "stderr"
        self.imported = place / "imported"

    def run(self, tests: Sequence[str], seconds: float) -> Outcome:
        """All tests, until the first that fails."""
        return self._run(lambda: _pytest(tests), seconds)

    def first(self, tests: Sequence[str], seconds: float) -> Outcome:
        """As `run`; what they import of other people's is then imported for the runs after it."""
        work = listing(lambda: _pytest(tests), self.imported, beside=self.tree)
        outcome = self._run(work, seconds)
        import_listed(self.imported)
        if len(os.listdir("/proc/self/task")) != 1:
            raise SystemExit("More than one thread: children would inherit their locks.")
        return outcome

    def _run(self, work: Callable[[], None], seconds: float) -> Outcome:
        job = Job("tests", work, self.tree, self.output, self.errors, seconds=seconds)
        ended = next(iter(run_all([job], workers=1)))
        said = self.output.read_text(errors="replace") + self.errors.read_text(errors="replace")
        return Outcome(ended.code, ended.killed, ended.seconds, said)

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """The mutant in the place of its module."""
        path = self.tree / SOURCE / mutant.module
        path.write_text(mutant.changed)
        try:
            yield
        finally:
            path.write_text(mutant.source)


def _pytest(tests: Sequence[str]) -> None:
    import pytest

    sys.exit(int(pytest.main([*OPTIONS, *tests])))
