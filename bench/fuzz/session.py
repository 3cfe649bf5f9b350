"""The process that all cases are forked from: it imports everything once and has one thread."""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random

from bench.fuzz.case import MEASURED, REFUSED, Case
from bench.fuzz.children import WORKERS, Ended, Job, import_listed, listing, run_all
from bench.fuzz.draw import FORMATS, corpus, drawn, good, tables
from bench.fuzz.judge import Outcome, Tree, judged, tree
from bench.fuzz.seeds import SEEDS, command
from bench.table import markdown

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
            print(f"FAILED {one.case.title}: {'; '.join(one.faults)}")
            print(f"       {repeated(one.case, asked.seed)}", flush=True)
    if asked.case is not None:
        for one in outcomes:
            print(f"{one.case.title}: {one.came}, {one.seconds:.1f} s")
            print(one.said.encode("unicode_escape").decode())
    show(outcomes, time.monotonic() - start)
    if asked.json:
        content = [_as_json(one, asked.seed) for one in outcomes]
        Path(asked.json).write_text(json.dumps(content, indent=1))
    sys.exit(int(any(one.faults for one in outcomes)))


class Session:
    """Good folders, made once, and cases run on copies of them."""

    def __init__(self, place: Path, only: Collection[str]):
        self.place = place
        for folder in ("good", "cases", "imported"):
            (place / folder).mkdir()
        _import_all()
        # What the first ones import, those after them have.
        self._make(["llama"])
        self._check(case for case in good() if case.format == "config")
        seeds = {FORMATS[name].seed for name in only}
        self._make(name for name in SEEDS if name in seeds - {"llama"})
        self._check(case for case in good() if case.format in only)
        threads = os.listdir("/proc/self/task")
        if len(threads) != 1:
            raise SystemExit(f"{len(threads)} threads: children would inherit their locks.")

    def run(
        self, cases: Iterable[Case], running: Callable[[Iterable[Job]], Iterable[Ended]] = run_all
    ) -> Iterator[Outcome]:
        """Every case in a child, some at a time."""
        under_way: dict[str, tuple[Case, Tree]] = {}

        def jobs() -> Iterator[Job]:
            for number, case in enumerate(cases):
                job, before = self._prepared(case, str(number))
                under_way[job.name] = case, before
                yield job

        for ended in running(jobs()):
            case, before = under_way.pop(ended.job.name)
            yield judged(case, ended, before, _resident())
            shutil.rmtree(ended.job.folder.parent, ignore_errors=True)

    def _prepared(self, case: Case, name: str) -> tuple[Job, Tree]:
        home = self.place / "cases" / name
        folder = home / "work"
        home.mkdir()
        shutil.copytree(self.place / "good" / case.seed, folder, symlinks=True)
        self._change(case, folder)
        stdin = _stdin(folder)
        kind, *rest = case.command.argv
        work = partial(_load, *rest) if kind == "wn.load" else partial(command, kind, *rest)
        return Job(name, work, folder, home / "stdout", home / "stderr", stdin), tree(folder)

    def _change(self, case: Case, folder: Path) -> None:
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
        out, err = folder.parent / "changes", folder.parent / "errors"
        list(run_all([Job(case.name, all_that_can_be_made, folder, out, err, seconds=10)]))

    def _learning(self, jobs: Iterable[Job]) -> Iterator[Ended]:
        """Jobs that import much: their parent then imports it as well, for those after them."""
        imported = self.place / "imported"
        listed = (
            replace(job, work=listing(job.work, imported / job.name), seconds=SLOWEST)
            for job in jobs
        )
        for ended in run_all(listed):
            yield ended
            import_listed(imported / ended.job.name)

    def _make(self, names: Iterable[str]) -> None:
        """The good folders."""

        def job(name: str) -> Job:
            folder = self.place / "good" / name
            folder.mkdir()
            out, err = self.place / f"{name}.out", self.place / f"{name}.err"
            return Job(name, partial(SEEDS[name], Path(".")), folder, out, err)

        for ended in self._learning(map(job, names)):
            if ended.code:
                said = ended.job.stderr.read_text(errors="replace")
                raise SystemExit(f"The good folder {ended.job.name} was not made:\n{said}")

    def _check(self, cases: Iterable[Case]) -> None:
        """Every command on good files succeeds, or the corpus tests nothing."""
        for one in self.run(cases, self._learning):
            if one.faults:
                raise SystemExit(f"{one.case.name} on good files: {one.faults}\n{one.said}")


def show(outcomes: Sequence[Outcome], seconds: float) -> None:
    """The counts by format, and the time."""
    sorts = (REFUSED, MEASURED, "failed")
    counts = Counter((one.case.format, "failed" if one.faults else one.came) for one in outcomes)
    rows = {name: [counts[name, sort] for sort in sorts] for name in FORMATS}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    cells = [[name, *(f"{n:,}" for n in (sum(r), *r))] for name, r in rows.items() if any(r)]
    print(markdown(["format", "cases", *sorts], cells))
    slow = max(outcomes, key=lambda one: one.seconds)
    print(
        f"{seconds:.0f} s, {sum(os.times()[:4]):.0f} s of CPU, {WORKERS} at a time; the longest, "
        f"{slow.case.title}, {slow.seconds:.1f} s"
    )


def repeated(case: Case, seed: int) -> str:
    """The command that repeats a case."""
    of_a_draw = f"--seed {seed} " if case.name.isdigit() else ""
    return f"python -m bench fuzz {of_a_draw}--case {case.name}"


def _as_json(one: Outcome, seed: int) -> dict:
    return {
        "case": one.case.title,
        "format": one.case.format,
        "came": one.came,
        "faults": one.faults,
        "said": one.said,
        "repeat": repeated(one.case, seed),
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
    read, write = os.pipe()
    with given.open("rb") as file:
        subprocess.Popen(["cat"], stdin=file, stdout=write)  # so that no one waits for a reader
    os.close(write)
    given.unlink()
    return read


def _import_all() -> None:
    import torch
    import tqdm
    import transformers  # noqa: F401

    import wideneck.cli  # noqa: F401

    torch.set_num_threads(1)
    tqdm.tqdm.monitor_interval = 0  # no thread that watches the bars


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
