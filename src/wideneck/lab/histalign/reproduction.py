"""Every objective with every seed: runs, summaries, and what the ranking loss adds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.splits import SPLITS
from wideneck.lab.ambiguous.words import read_analogies
from wideneck.lab.found import Found, made_now
from wideneck.lab.histalign.evaluation import VIEWS
from wideneck.lab.histalign.objectives import COMMON, OBJECTIVES
from wideneck.lab.histalign.runs import Run, Settings, run
from wideneck.lab.histalign.training import Recipe
from wideneck.lab.jobs import Job, all_runs
from wideneck.lab.published import scales
from wideneck.lab.registry import Request
from wideneck.lab.spread import Spread, over_seeds
from wideneck.lab.tasks.scale import scale_from_scratch
from wideneck.registry import did_you_mean

SCALES = scales("histalign", Recipe)
TEMPLATE = "template"
DEFAULT_MODEL = "gpt2"
"""The paper's scale has it: the GPT2-small of its Table 1."""
FIGURES = ("memory_share", "loss", "loss_model", "rank", "rank_model", "seconds", "cpu_seconds")
"""Fields of a run that a mean makes sense of, beside its accuracies."""
Figures = dict[int, dict[str, float]]
"""Seed -> the figures of its run, by name."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One objective over its seeds."""

    objective: str = measure("name of the objective")
    figures: dict[str, Spread] = measure(
        'each figure of the runs by name, with a point before k: "full.2", "cache.25", "loss"'
    )


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What the ranking loss adds, seed by seed."""

    objective: str = measure("with the ranking loss")
    over: str = measure("without it")
    figures: dict[str, Spread] = measure(
        "mean and deviation of the differences between runs of equal seed, by name as above"
    )


@dataclass(frozen=True, kw_only=True)
class Reproduction(Found):
    """What `wideneck reproduce histalign` finds."""

    settings: dict[str, Any] = measure("sizes, training and evaluation, shared by all runs")
    objectives: dict[str, dict[str, Any]] = measure(
        "fields of wideneck.Memory of each objective; the ranking loss is as released, the second "
        "half of the paper's Equation 5 being DERIVED from the code, by us"
    )
    runs: list[Run] = measure("each objective with each seed")
    summaries: list[Summary] = measure("each objective over its seeds")
    gaps: list[Gap] = measure("with the ranking loss minus without, over seeds")


def reproduce(request: Request, progress: Progress) -> Found:
    """Make the runs that the folder does not hold, and summarize all.

    The ambiguous template's; the other tasks are those of `wideneck.lab.tasks`.

    Raises:
        WideneckError: settings that do not go together, no words, a folder of other settings, a
            model that cannot be used.
    """
    if request.own.get("task", TEMPLATE) != TEMPLATE:
        refuse(request, ("words", "split"), f"belongs to --task {TEMPLATE}")
        from wideneck.lab.tasks.reproduction import reproduce as of_task

        return of_task(request, progress)
    refuse(request, ("data", "judge"), "belongs to the other tasks, see --task")
    chosen = settings(request)
    analogies = read_analogies(request.own.get("words"))
    # Of the words that are used, whatever file they came from.
    content = json.dumps(analogies).encode()
    chosen = replace(chosen, words_sha256=hashlib.sha256(content).hexdigest())
    with request.store(asdict(chosen)) as store:
        runs = all_runs(
            {
                f"{name}-seed{seed}": Job(
                    {"objective": name, "seed": seed}, partial(run, chosen, analogies, name, seed)
                )
                for seed in range(request.num_seeds)
                for name in OBJECTIVES
            },
            Run,
            store,
            progress,
            processes=None if chosen.model is None else 1,  # a loaded model fills a machine
        )
    return reproduction(chosen, runs)


def refuse(request: Request, names: Sequence[str], why: str) -> None:
    """Refuse options of other tasks."""
    for name in names:
        if name in request.own:
            raise WideneckError(f"--{name} {why}: leave it out.")


def settings(request: Request) -> Settings:
    """The settings of a command line, defaults filled in.

    Raises:
        WideneckError: an unknown split, or a model where one is made from scratch.
    """
    model, split = request.model, request.own.get("split", next(iter(SPLITS)))
    scale = scale_from_scratch(request)
    if scale == "paper" and model is None:
        model = DEFAULT_MODEL
    if split not in SPLITS:
        raise WideneckError(f"No split is called '{split}'.{did_you_mean(split, list(SPLITS))}")
    return Settings(scale=scale, model=model, split=split, recipe=SCALES[scale])


def reproduction(chosen: Settings, runs: Sequence[Run]) -> Reproduction:
    """The table of finished runs, for all objectives and the same seeds of each."""
    found: dict[str, Figures] = {name: {} for name in OBJECTIVES}
    for one in runs:
        found[one.objective][one.seed] = figures(one)
    return Reproduction(
        settings=asdict(chosen),
        objectives={name: COMMON | one.memory for name, one in OBJECTIVES.items()},
        runs=list(runs),
        summaries=[
            Summary(objective=name, figures=over_seeds([*by_seed.values()]))
            for name, by_seed in found.items()
        ],
        gaps=[
            Gap(objective=name, over=one.over, figures=_differences(found[name], found[one.over]))
            for name, one in OBJECTIVES.items()
            if one.over is not None
        ],
        **made_now("histalign"),
    )


def figures(run: Run) -> dict[str, float]:
    """The numbers of a run that a mean makes sense of, by name."""
    accuracies = {f"{view}.{k}": value for view in VIEWS for k, value in getattr(run, view).items()}
    return accuracies | {name: float(getattr(run, name)) for name in FIGURES}


def _differences(more: Figures, less: Figures) -> dict[str, Spread]:
    """Of two objectives, seed by seed."""
    return over_seeds(
        [{name: a[name] - less[seed][name] for name in a} for seed, a in more.items()]
    )
