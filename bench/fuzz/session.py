"""The process that all cases are forked from: it imports everything once and has one thread."""

import argparse
import json
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random

from bench.fuzz.case import MEASURED, REFUSED, Case
from bench.fuzz.children import Job, run_all
from bench.fuzz.draw import corpus, drawn, good, tables
from bench.fuzz.imports import import_listed, listing
from bench.fuzz.judge import Outcome, Tree, judged, tree
from bench.fuzz.seeds import SEEDS
from bench.fuzz.tables import FORMATS
from bench.table import markdown

WORKERS = 2
SLOWEST = 600.0
"""Seconds for what is done once, and imports much, on a machine that has other work."""


def main() -> None:
    place, asked = _arguments()
    start = time.monotonic()
    cases = _cases(asked)
    session = Session(place, only={case.format for case in cases})
    outcomes = []
    for one in session.run(cases):
        outcomes.append(one)
        if one.faults:
            print(f"FAILED {one.case.said or one.case.name}: {'; '.join(one.faults)}")
            print(f"       {repeated(one.case, asked.seed)}", flush=True)
    if asked.case is not None:
        for one in outcomes:
            print(f"{one.case.said or one.case.name}: {one.came}, {one.seconds:.1f} s")
            print(one.said.encode("unicode_escape").decode())
    show(outcomes, asked, time.monotonic() - start)
    if asked.json:
        Path(asked.json).write_text(
            json.dumps([_as_json(one, asked) for one in outcomes], indent=1)
        )
    sys.exit(int(any(one.faults for one in outcomes)))


class Session:
    """Good folders, made once, and cases run on copies of them."""

    def __init__(self, place: Path, only: Collection[str]):
        self.place = place
        (place / "good").mkdir()
        (place / "cases").mkdir()
        forms = [form for form in FORMATS.values() if form.name in only]
        _import_all()
        # What the first ones import, those after them have.
        seeds = dict.fromkeys(["llama", *(form.seed for form in forms)])
        known = [case for case in good() if case.format == "config"]
        self._make(["llama"])
        self._check(known)
        self._make([name for name in seeds if name != "llama"])
        self._check([case for case in good() if case.format in {f.name for f in forms}])
        threads = os.listdir("/proc/self/task")
        if len(threads) != 1:
            raise SystemExit(f"{len(threads)} threads: children would inherit their locks.")
        self.resident = _resident()
        self.cpu = 0.0

    def run(self, cases: Sequence[Case]) -> Iterator[Outcome]:
        """Every case in a child, two at a time."""
        under_way: dict[str, tuple[Case, Tree]] = {}

        def jobs() -> Iterator[Job]:
            for number, case in enumerate(cases):
                name = str(number)
                job, before = self._prepared(case, name)
                under_way[name] = (case, before)
                yield job

        for ended in run_all(jobs(), WORKERS):
            case, before = under_way.pop(ended.job.name)
            yield judged(case, ended, before, self.resident)
            shutil.rmtree(ended.job.folder.parent, ignore_errors=True)

    def _prepared(self, case: Case, name: str) -> tuple[Job, Tree]:
        home = self.place / "cases" / name
        folder = home / "work"
        home.mkdir()
        shutil.copytree(self.place / "good" / case.seed, folder, symlinks=True)
        self._change(case, home, folder)
        stdin = _stdin(folder)
        before = tree(folder)
        job = Job(
            name,
            _command_line(case.command.argv),
            folder,
            home / "stdout",
            home / "stderr",
            stdin=stdin,
        )
        return job, before

    def _change(self, case: Case, home: Path, folder: Path) -> None:
        draw = Random(case.stream)
        if len(case.changes) <= 1:
            for _, change in case.changes:
                change(folder, draw)
            return

        def all_that_can_be_made() -> None:
            for _, change in case.changes:
                with suppress(Exception):  # what an earlier one has left may be in the way
                    change(folder, draw)

        # In a child, since it reads what an earlier change has left.
        job = Job(case.name, all_that_can_be_made, folder, home / "changes", home / "errors")
        for _ in run_all([replace(job, seconds=10)], workers=1):
            pass

    def _make(self, names: Sequence[str]) -> None:
        """The good folders."""

        def jobs() -> Iterator[Job]:
            for name in names:
                folder = self.place / "good" / name
                folder.mkdir()
                out, err = self.place / f"{name}.out", self.place / f"{name}.err"
                work = listing(
                    lambda name=name: SEEDS[name](Path(".")), self.place / f"{name}.modules"
                )
                yield Job(name, work, folder, out, err, seconds=SLOWEST)

        for ended in run_all(jobs(), WORKERS):
            if ended.code:
                said = ended.job.stderr.read_text(errors="replace")
                raise SystemExit(f"The good folder {ended.job.name} was not made:\n{said}")
        for name in names:
            import_listed(self.place / f"{name}.modules")

    def _check(self, cases: Sequence[Case]) -> None:
        """Every command on good files succeeds, or the corpus tests nothing."""
        under_way: dict[str, tuple[Case, Tree]] = {}
        listed = self.place / "listed"
        listed.mkdir(exist_ok=True)

        def jobs() -> Iterator[Job]:
            for number, case in enumerate(cases):
                job, before = self._prepared(case, f"good{number}")
                under_way[job.name] = (case, before)
                yield replace(job, work=listing(job.work, listed / job.name), seconds=SLOWEST)

        for ended in run_all(jobs(), WORKERS):
            case, before = under_way.pop(ended.job.name)
            outcome = judged(case, ended, before, _resident())
            if outcome.faults:
                raise SystemExit(f"{case.name} on good files: {outcome.faults}\n{outcome.said}")
            shutil.rmtree(ended.job.folder.parent)
            import_listed(listed / ended.job.name)


def show(outcomes: Sequence[Outcome], asked: argparse.Namespace, seconds: float) -> None:
    """The counts by format, and the time."""
    counts = Counter((one.case.format, _sort(one)) for one in outcomes)
    header = ["format", "cases", "refused", "measured", "failed"]
    rows = [
        [name, *(f"{n:,}" for n in _row(counts, [name]))]
        for name in FORMATS
        if any(one.case.format == name for one in outcomes)
    ]
    rows.append(["all", *(f"{n:,}" for n in _row(counts, list(FORMATS)))])
    print(markdown(header, rows))
    own, all_ = (
        resource.getrusage(resource.RUSAGE_SELF),
        resource.getrusage(resource.RUSAGE_CHILDREN),
    )
    cpu = own.ru_utime + own.ru_stime + all_.ru_utime + all_.ru_stime
    slow = max(outcomes, key=lambda one: one.seconds)
    print(
        f"{seconds:.0f} s, {cpu:.0f} s of CPU, {WORKERS} at a time; the longest, "
        f"{slow.case.said or slow.case.name}, {slow.seconds:.1f} s"
    )


def repeated(case: Case, seed: int) -> str:
    """The command that repeats a case."""
    of_a_draw = f"--seed {seed} " if case.name.isdigit() else ""
    return f"python -m bench fuzz {of_a_draw}--case {case.name}"


def _row(counts: Counter, names: list[str]) -> list[int]:
    found = [sum(counts[name, sort] for name in names) for sort in (REFUSED, MEASURED, "failed")]
    return [sum(found), *found]


def _sort(one: Outcome) -> str:
    return "failed" if one.faults else one.came


def _as_json(one: Outcome, asked: argparse.Namespace) -> dict:
    return {
        "case": one.case.said or one.case.name,
        "format": one.case.format,
        "came": one.came,
        "faults": one.faults,
        "said": one.said,
        "repeat": repeated(one.case, asked.seed),
        "seconds": round(one.seconds, 2),
        "cpu": round(one.cpu, 2),
    }


def _cases(asked: argparse.Namespace) -> list[Case]:
    if asked.case is not None:
        if asked.case.isdigit():
            return [drawn(asked.seed, int(asked.case))]
        found = [case for case in chain(tables(), good()) if case.name == asked.case]
        if not found:
            raise SystemExit(f"No case is called {asked.case}.")
        return found
    if asked.cases is not None:
        cases = [drawn(asked.seed, number) for number in range(asked.cases)]
    else:
        cases = corpus() if asked.corpus else list(tables())
    return [case for case in cases if not asked.only or case.format in asked.only]


def _arguments() -> tuple[Path, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="python -m bench fuzz")
    parser.add_argument("place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, help="drawn ones; without it, all of the tables")
    parser.add_argument("--corpus", action="store_true", help="those of the test suite")
    parser.add_argument("--case", help="one of them again: a number or a name")
    parser.add_argument("--only", action="append", choices=list(FORMATS), help="a format")
    parser.add_argument("--json", help="a file for every outcome")
    asked = parser.parse_args()
    return asked.place, asked


def _command_line(argv: tuple[str, ...]) -> Callable[[], object]:
    def work() -> None:
        from wideneck.cli import main

        if argv[0] == "wn.load":
            return _load(argv[1])
        sys.argv = ["wideneck", *argv]
        main()

    return work


def _load(path: str) -> None:
    """As a user of Python does: what `wn.load` raises is printed as the command line prints it."""
    import torch

    import wideneck as wn
    from wideneck.files.printable import printable
    from wideneck.models.quiet import quiet_transformers

    try:
        with quiet_transformers():  # its bars and warnings are its own
            model = wn.load(path)
    except wn.WideneckError as error:
        sys.exit(printable(f"wideneck: {error}"))
    try:
        model(torch.arange(8)[None])
    except Exception as error:  # the model is loaded, and reads no file any more
        sys.exit(f"wideneck: the model raises a {type(error).__name__}.")


def _stdin(folder: Path) -> int | None:
    """A pipe with what lies in the folder's file of that name."""
    given = folder / "stdin"
    if not given.exists():
        return None
    data = given.read_bytes()
    given.unlink()
    read, write = os.pipe()
    if os.fork() == 0:  # so that no one waits for a reader
        os.close(read)
        try:
            with os.fdopen(write, "wb") as file:
                file.write(data)
        finally:
            os._exit(0)
    os.close(write)
    return read


def _import_all() -> None:
    import torch
    import transformers  # noqa: F401

    import wideneck.cli  # noqa: F401

    torch.set_num_threads(1)
    import tqdm

    tqdm.tqdm.monitor_interval = 0  # no thread that watches the bars


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
