"""Tests in a child that is forked after the imports of other people's packages.

The process that forks must not have imported anything of ours: each child does so anew, with the
mutant in its place.
"""

import math
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from bench.fuzz.children import Job, import_listed, listing, run_all
from bench.mutants.mutant import Mutant
from bench.mutants.packages import SOURCE

OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
# A plugin that is imported before the fork is not rewritten; no test of ours asserts through one.
OPTIONS += ("-W", "ignore::pytest.PytestAssertRewriteWarning")
SLOWEST = 900
"""Seconds of a test file on the code as it is."""


@dataclass(frozen=True)
class Outcome:
    """How the tests ended."""

    code: int
    """Exit code of pytest: 0 where all passed."""
    timeout: bool
    seconds: float
    cpu: float
    said: str


class Trials:
    """Runs of test files in `tree`, one at a time; what they print goes to `place`."""

    def __init__(self, tree: Path, place: Path):
        self.tree = tree
        self.output, self.errors = place / "stdout", place / "stderr"
        self.imported = place / "imported"
        self.usual: dict[str, Outcome] = {}
        self.seconds = count(1)

    def of(self, mutant: Mutant, tests: Sequence[str]) -> Outcome:
        """Run the test files on a mutant, one after another, until one fails."""
        outcome = None
        for test in tests:
            usual = self.as_it_is(test)
            with self.planted(mutant):
                outcome = self._run(
                    partial(_pytest, test), 300 + 10 * usual.seconds, math.ceil(3 + 4 * usual.cpu)
                )
            if outcome.code:
                break
        assert outcome is not None, "a module without tests"
        return outcome

    def as_it_is(self, test: str) -> Outcome:
        """Run a test file on the code as it is, which it must pass, or nothing is told.

        It runs once; what it imports of other people's is then there for the runs after it.
        """
        if test not in self.usual:
            work = listing(partial(_pytest, test), self.imported, beside=self.tree)
            outcome = self._run(work, SLOWEST, SLOWEST)
            if outcome.timeout:
                ran = f"{outcome.seconds:.0f} s ({outcome.cpu:.0f} s of CPU)"
                raise SystemExit(f"{test} on the code as it is had no end after {ran}.")
            if outcome.code:
                raise SystemExit(f"{test} fails on the code as it is:\n{outcome.said}")
            import_listed(self.imported)
            if len(os.listdir("/proc/self/task")) != 1:
                raise SystemExit("More than one thread: children would inherit their locks.")
            self.usual[test] = outcome
            print(f"{test} as it is: passed, {outcome.cpu:.0f} s of CPU", flush=True)
        return self.usual[test]

    def _run(self, work: Callable[[], object], seconds: float, cpu: int) -> Outcome:
        """The work within limits on the clock and of CPU, which also tell on a busy machine."""

        def within() -> None:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
            work()

        job = Job("tests", within, self.tree, self.output, self.errors, seconds=seconds)
        ended = next(iter(run_all([job], workers=1)))
        said = self.output.read_text(errors="replace") + self.errors.read_text(errors="replace")
        timeout = ended.killed or ended.code == -signal.SIGXCPU
        return Outcome(ended.code, timeout, ended.seconds, ended.cpu, said)

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """The mutant in the place of its module.

        Python takes a file for the one that it has compiled if size and time, in whole seconds,
        are the same, so every mutant has a second of its own, at the beginning of 1970.
        """
        path = self.tree / SOURCE / mutant.module
        before = path.stat()
        path.write_text(mutant.changed)
        second = next(self.seconds)
        os.utime(path, (second, second))
        try:
            yield
        finally:
            path.write_text(mutant.source)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as it was compiled


def _pytest(test: str) -> None:
    import pytest

    sys.exit(int(pytest.main([*OPTIONS, test])))
