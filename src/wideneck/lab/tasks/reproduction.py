"""Every objective with every seed on one of the tasks: runs, summaries, differences."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.lab.found import Found, made_now
from wideneck.lab.jobs import Job, all_runs
from wideneck.lab.published import prose
from wideneck.lab.registry import Request
from wideneck.lab.tasks.comparing import Difference, Row, differences, rows
from wideneck.lab.tasks.continuation_task import prepared as continuation
from wideneck.lab.tasks.pages import words
from wideneck.lab.tasks.pair_tasks import prepared as pairs
from wideneck.lab.tasks.runs import Run, run
from wideneck.lab.tasks.trial import Prepared
from wideneck.lab.tasks.views import WRITTEN
from wideneck.lab.verdict import Verdict, judge_difference
from wideneck.registry import did_you_mean

TASKS: dict[str, Callable[[Request], Prepared]] = {
    "continuation": continuation,
    "summaries": partial(pairs, "summaries"),
    "data-to-text": partial(pairs, "data-to-text"),
}
"""What sets each task up."""
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Direction:
    """The sign of a published difference beside that of ours."""

    data: str = measure("what the paper's is of")
    measure_name: str = measure("the paper's measure")
    beside: str = measure("the measure of ours that stands beside it", caution="another number")
    more: str = measure("the paper's row that is compared")
    less: str = measure("and the one that is subtracted")
    verdict: Verdict = measure("the paper's difference, and what may be said of the two signs")


@dataclass(frozen=True, kw_only=True)
class Reproduction(Found):
    """What `wideneck reproduce histalign --task TASK` finds."""

    settings: dict[str, Any] = measure("data, sizes, training and evaluation, shared by all runs")
    runs: list[Run] = measure("each objective with each seed")
    rows: list[Row] = measure("each objective over its seeds, by how its memory is used")
    beside: dict[str, dict[str, float]] = measure(
        "measures of texts that no model wrote: the references, and baselines"
    )
    differences: list[Difference] = measure("one row minus another, seed by seed")
    directions: list[Direction] = measure("the signs of published differences beside ours")

    @property
    def asked(self) -> str:
        """Paper and task."""
        return f"histalign --task {self.settings['task']}"

    def words(self) -> dict[str, Any]:
        """The page of this task."""
        return words(self.settings["task"], self.settings["judged"])


def reproduce(request: Request, progress: Progress) -> Reproduction:
    """Make the runs that the folder does not hold, and summarize all.

    Raises:
        WideneckError: an unknown task, options that do not go together, data or a model that cannot
            be used, a folder of other settings.
    """
    task = request.own["task"]
    if task not in TASKS:
        known = ["template", *TASKS]
        raise WideneckError(f"No task is called '{task}'.{did_you_mean(task, known)}")
    asked = TASKS[task](request)
    with request.store(asked.settings, task) as store:
        checkpoints = store.path / CHECKPOINTS
        jobs = {
            f"{name}-seed{seed}": Job(
                {"objective": name, "seed": seed},
                partial(
                    run,
                    partial(asked.begin, name, seed),
                    name,
                    seed,
                    checkpoints / f"{name}-seed{seed}",
                ),
            )
            for seed in range(request.num_seeds)
            for name in WRITTEN
        }
        runs = all_runs(
            jobs,
            Run,
            store,
            progress,
            processes=asked.processes,
            made=lambda name: shutil.rmtree(checkpoints / name, ignore_errors=True),
        )
    return reproduction(asked.settings, runs)


def reproduction(settings: dict[str, Any], runs: Sequence[Run]) -> Reproduction:
    """The tables of finished runs."""
    found, now = list(differences(runs)), made_now("tasks")
    return Reproduction(
        settings=settings,
        runs=list(runs),
        rows=rows(runs),
        beside=runs[0].beside,
        differences=found,
        directions=list(_directions(settings["task"], found, now["published"])),
        **now,
    )


def _directions(task: str, found: Sequence[Difference], published: Any) -> Iterator[Direction]:
    """Of every published difference that has one of ours beside it."""
    says = prose("tasks")
    told = says[task]
    rows_of = {name: tuple(which) for name, which in says["methods"].items()}
    by_rows = {(one.ours, one.theirs): one.figures for one in found}
    for data in told["published"]:
        for name, beside in told["beside"].items():
            numbers = {one.row: one for one in published.find(data=data, measure=name)}
            for more, less in told["claims"]:
                if more in numbers and less in numbers:
                    mine = by_rows.get((rows_of[more], rows_of[less]), {})
                    yield Direction(
                        data=data,
                        measure_name=name,
                        beside=beside,
                        more=more,
                        less=less,
                        verdict=judge_difference(numbers[more], numbers[less], mine.get(beside)),
                    )
