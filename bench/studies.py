"""What the studies share: arms that are trained alike over seeds, kept, and compared.

A study is an experiment of the engine that reproductions run on: its jobs are arms with seeds, its
runs are files of a store (`wideneck.files.store`), and what is finished is not run again, so that
the same command continues an interrupted study.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.parts import seconds
from wideneck.audits.estimate import estimate
from wideneck.errors import WideneckError
from wideneck.files.store import SETTINGS, Store
from wideneck.lab.jobs import Job as Wanted
from wideneck.lab.jobs import all_runs
from wideneck.lab.spread import cell, spread
from wideneck.report.fields import strict

Line = dict[str, Any]
"""What a run found, with its `arm` and `seed`; once read, with the settings of its `study`."""
Runs = Mapping[int, Line]
"""The runs of one arm, by seed."""
ByArm = dict[str, dict[int, Line]]
"""Runs by arm and seed."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A study that is set up."""

    settings: dict[str, Any]
    """All that its runs share."""
    arms: Sequence[str]
    """Those that there are."""
    make: Callable[[str, int], Line]
    """One arm with one seed."""
    told: Callable[[Line], str]
    """What is said of a run that is done, behind its name."""


class Job(NamedTuple):
    """One run."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """How a study is called, set up and told."""

    name: str
    about: str | None
    begin: Callable[[argparse.Namespace], Experiment]
    report: Callable[[list[Line]], str]
    options: Callable[[Any], None] = lambda add: None
    """Adds its own to those of all."""
    quick: Mapping[str, int] | None = None
    """What `--quick` changes of a recipe that has steps, if the study is of such."""

    def main(self, arguments: list[str]) -> None:
        """Make what is missing and print the tables, or print those of what is there."""
        if arguments[:1] == ["report"] and len(arguments) == 2:
            print(self.report(finished(Path(arguments[1]))))
            return
        options = self.parser().parse_args(arguments)
        try:
            self._make(options)
        except WideneckError as error:
            sys.exit(str(error))
        print(self.report(finished(options.out)))

    def parser(self) -> argparse.ArgumentParser:
        """The options of all studies and its own."""
        found = argparse.ArgumentParser(
            prog=f"python -m bench {self.name}",
            description=self.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add = found.add_argument
        add("--out", type=Path, required=True, help="folder of the results")
        add("--seeds", type=int, help="this many, from 0; 3 unless told")
        if self.quick is not None:
            add("--steps", type=int, help="of training")
            add("--threads", type=int, default=2, help="of torch; 2 unless told")
            add("--only", help="arms, split by commas, or by semicolons if a name has one; all")
            add("--quick", action="store_true", help="a smoke test, of 1 seed unless told")
        self.options(add)
        return found

    def changes(self, options: argparse.Namespace, *names: str) -> dict[str, Any]:
        """What the options change of a recipe: with `--quick`, and those of these names."""
        told = {name: getattr(options, name) for name in ("steps", *names)}
        quick = self.quick if options.quick and self.quick else {}
        return {**quick, **{name: value for name, value in told.items() if value is not None}}

    def _make(self, options: argparse.Namespace) -> None:
        seeds = 3
        if self.quick is not None:
            torch.set_num_threads(options.threads)
            seeds = 1 if options.quick else 3
        found = self.begin(options)
        machine = {"torch": torch.__version__, "threads": torch.get_num_threads()}

        def work(job: Job, show: Callable[[float], None]) -> Line:
            line = {**job._asdict(), **found.make(job.arm, job.seed), "machine": machine}
            told = f"{job.arm}, seed {job.seed}: {found.told(line)}"
            print(told, file=sys.stderr, flush=True)
            return strict(line)

        arms = _chosen(found.arms, options.only)
        # Seed by seed, so that an interrupted study has something to compare.
        jobs = [Job(arm, seed) for seed in range(options.seeds or seeds) for arm in arms]
        with Store.opened(options.out, {"study": self.name, **found.settings}) as store:
            works = {job.name: Wanted(job._asdict(), partial(work, job)) for job in jobs}
            all_runs(works, dict, store, lambda *_: None, processes=1)


def _chosen(known: Sequence[str], only: str | None) -> Sequence[str]:
    """Split by commas, or by semicolons where a name has a comma."""
    mark = ";" if any("," in arm for arm in known) else ","
    asked = known if only is None else only.split(mark)
    if unknown := [arm for arm in asked if arm not in known]:
        sys.exit(f"The study has {f'{mark} '.join(known)}, not {unknown[0]!r}.")
    return asked


def finished(folder: Path) -> list[Line]:
    """The runs of a study in the order in which they were made, each with its study's settings."""
    files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    settings = json.loads((folder / SETTINGS).read_text())
    return [
        {**json.loads(file.read_text()), "study": settings}
        for file in files
        if file.name != SETTINGS
    ]


def by_arm(lines: Iterable[Line]) -> ByArm:
    """The runs of each arm by seed."""
    found: ByArm = {}
    for line in lines:
        found.setdefault(line["arm"], {})[line["seed"]] = line
    return found


def mean_sd(values: Iterable[float], digits: int, sign: str = "") -> str:
    """Over seeds."""
    return cell(spread([*values]), digits, sign=bool(sign))


def span(values: Iterable[float], digits: int, between: str = " to ") -> str:
    """The lowest and the highest, or what they both are."""
    shown = sorted(values)
    low, high = f"{shown[0]:.{digits}f}", f"{shown[-1]:.{digits}f}"
    return low if low == high else f"{low}{between}{high}"


def difference(
    ours: Runs,
    theirs: Runs,
    values: Callable[[Line], Sequence[float]],
    our_values: Callable[[Line], Sequence[float]] | None = None,
    groups: Callable[[Line], Sequence[int]] | None = None,
) -> tuple[list[float], float | None, float | None] | None:
    """The mean difference of each seed, and a 95 % interval over texts of its mean over seeds.

    Runs of one seed are paired, and so are their texts.

    Args:
        ours, theirs: runs by seed.
        values: of a run, one number per text.
        our_values: the same of ours, where it is another.
        groups: the document of each text; None where each is one of its own.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    mine = our_values or values
    rows = [
        [one - other for one, other in zip(mine(ours[s]), values(theirs[s]), strict=True)]
        for s in seeds
    ]
    by_text = torch.tensor(rows, dtype=torch.double).mean(0)
    document = range(len(by_text)) if groups is None else groups(ours[seeds[0]])
    found = estimate(by_text[:, None], torch.tensor(document))
    return [statistics.mean(row) for row in rows], found.low, found.high


def train(
    optimizer: torch.optim.Optimizer,
    factor: Callable[[int], float],
    parameters: Iterable[torch.Tensor],
    clip: float,
    num_steps: int,
    loss: Callable[[int], torch.Tensor],
) -> list[float]:
    """Seconds of every step.

    Args:
        optimizer: of all that learns.
        factor: of its rates at a step.
        parameters: whose gradients are clipped together.
        clip: the longest that they may be.
        num_steps: steps.
        loss: of a step, from the data on.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    parameters = list(parameters)

    def step(number: int) -> None:
        loss(number).backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

    return [seconds(partial(step, number)) for number in range(num_steps)]


def warmed_cosine(num_steps: int, warm_up: float, final: float) -> Callable[[int], float]:
    """A factor of rates: linear warm-up over a share of the steps, then a cosine to `final`."""
    rising = max(1, round(warm_up * num_steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        turn = math.pi * (step - rising) / max(1, num_steps - rising)
        return final + (1 - final) * (1 + math.cos(turn)) / 2

    return factor
