"""What the studies share: arms that are trained alike over seeds, kept, and compared.

A study is an experiment of the engine that reproductions run on: its jobs are arms with seeds, its
runs are files of a store (`wideneck.files.store`), and what is finished is not run again, so that
the same command continues an interrupted study.  Imports no torch, as other benches measure
processes without it.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

Line = dict[str, Any]
"""What a run found, with its `arm` and `seed`; once read, with the settings of its `study`."""
ByArm = dict[str, dict[int, Line]]
"""Runs by arm and seed."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A study that is set up."""

    settings: dict[str, Any]
    """All that its runs share."""
    arms: Sequence[str]
    """Those that there are."""
    make: Callable[[str, int | None], Line]
    """One arm with one seed."""
    once: Sequence[str] = ()
    """What has no seed."""
    seeds: int = 3
    """Unless told."""
    told: Callable[[Line], str] | None = None
    """What is said of a run that is done."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """How a study is called, set up and told."""

    name: str
    about: str
    options: Callable[[Any], None]
    """Adds its own to those of all."""
    begin: Callable[[argparse.Namespace], Experiment]
    report: Callable[[list[Line]], str]


class Job(NamedTuple):
    """One run."""

    arm: str
    seed: int | None

    @property
    def name(self) -> str:
        return self.arm if self.seed is None else f"{self.arm}-{self.seed}"


def main(study: Study, arguments: list[str]) -> None:
    """Make what is missing and print the tables, or print those of what is there."""
    from wideneck.errors import WideneckError

    if arguments[:1] == ["report"] and len(arguments) == 2:
        print(study.report(finished(Path(arguments[1]))))
        return
    options = parser(study).parse_args(arguments)
    try:
        _make(study, options)
    except WideneckError as error:
        sys.exit(str(error))
    print(study.report(finished(options.out)))


def parser(study: Study) -> argparse.ArgumentParser:
    """The options of all studies and its own."""
    found = argparse.ArgumentParser(
        prog=f"python -m bench {study.name}",
        description=study.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--out", type=Path, required=True, help="folder of the results")
    found.add_argument("--seeds", type=int, help="this many, from 0; 3 unless told")
    study.options(found.add_argument)
    return found


def _make(study: Study, options: argparse.Namespace) -> None:
    found = study.begin(options)
    import torch

    from wideneck.files.store import Store
    from wideneck.lab.jobs import all_runs
    from wideneck.report.fields import strict

    machine = {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def work(job: Job, show: Callable[[float], None]) -> Line:
        line = {**job._asdict(), **found.make(job.arm, job.seed), "machine": machine}
        if found.told is not None and job.seed is not None:
            print(found.told(line), file=sys.stderr, flush=True)
        return strict(line)

    arms = _chosen(found.arms, options.only)
    # Seed by seed, so that an interrupted study has something to compare.
    seeds = range(options.seeds or found.seeds)
    jobs = [*(Job(name, None) for name in found.once), *(Job(a, s) for s in seeds for a in arms)]
    works = {job.name: partial(work, job) for job in jobs}
    with Store.opened(options.out, {"study": study.name, **found.settings}) as store:
        all_runs(works, dict, store, lambda *_: None, processes=1)


def _chosen(known: Sequence[str], only: str | None) -> Sequence[str]:
    """Split by commas, or by semicolons where a name has a comma."""
    mark = ";" if any("," in arm for arm in known) else ","
    asked = known if only is None else only.split(mark)
    if unknown := [arm for arm in asked if arm not in known]:
        sys.exit(f"The study has {f'{mark} '.join(known)}, not {unknown[0]!r}.")
    return asked


def finished(path: Path) -> list[Line]:
    """The runs of a study in the order in which they were made, each with its study's settings.

    Files of earlier versions are read too: a line of JSON each, all in one JSON, and a folder of
    files that each say what they are `about`.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        found = {file.stem: json.loads(file.read_text()) for file in files}
        shared = found.pop("settings", None)
        lines = [
            {"arm": name, "seed": None, **line, "study": shared or line["about"]}
            for name, line in found.items()
        ]
    elif path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [{"arm": line["head"], **line, "study": line["settings"]} for line in lines]
    else:
        found = json.loads(path.read_text())
        shared = {"study": found["settings"]}
        lines = [{"arm": line["normalizer"], **line, **shared} for line in found["runs"]]
    return lines


def by_arm(lines: Sequence[Line]) -> ByArm:
    """The runs of each arm by seed."""
    found: ByArm = {}
    for line in lines:
        found.setdefault(line["arm"], {})[line["seed"]] = line
    return found


def mean_sd(values: Sequence[float], digits: int, sign: str = "") -> str:
    """Over seeds."""
    from wideneck.lab.spread import cell, spread

    return cell(spread(values), digits, sign=bool(sign))


def span(values: Sequence[float], digits: int, between: str = " to ") -> str:
    """The lowest and the highest, or what they both are."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}{between}{high}"


def difference(
    ours: Mapping[int, Line],
    theirs: Mapping[int, Line],
    values: Callable[[Line], Sequence[float]],
    our_values: Callable[[Line], Sequence[float]] | None = None,
    groups: Callable[[Line], Sequence[int]] | None = None,
) -> tuple[list[float], float | None, float | None] | None:
    """The mean difference of each seed, and a 95 % interval over texts of its mean over seeds.

    Runs of one seed are paired, and so are their texts.

    Args:
        ours, theirs: runs by seed.
        values: of a run, one number a text.
        our_values: the same of ours, where it is another.
        groups: the document of each text; None where each is one of its own.
    """
    import torch

    from wideneck.audits.estimate import estimate

    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    mine = our_values or values
    rows = [
        [one - other for one, other in zip(mine(ours[s]), values(theirs[s]), strict=True)]
        for s in seeds
    ]
    by_text = torch.tensor(rows, dtype=torch.double).mean(0)
    document = torch.arange(len(by_text))
    if groups is not None:
        document = torch.tensor(groups(ours[seeds[0]]))
    found = estimate(by_text[:, None], document)
    return [statistics.mean(row) for row in rows], found.low, found.high
