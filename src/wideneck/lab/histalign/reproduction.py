"""The whole table: settings, runs, summaries and gaps beside what the paper prints."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.files.store import Store
from wideneck.lab.ambiguous.words import read_analogies
from wideneck.lab.found import Found, made_now
from wideneck.lab.histalign.objectives import COMMON, OBJECTIVES
from wideneck.lab.histalign.runs import Run, all_runs
from wideneck.lab.histalign.settings import Settings, settings
from wideneck.lab.registry import Request
from wideneck.lab.spread import Spread, over_seeds

PRINTED = ("2", "5", "10", "25")
"""The k of the paper's table; `Run` has all of the released evaluation."""


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


def reproduce(request: Request, progress: Progress) -> Reproduction:
    """Make the runs that the folder does not hold, and summarize all.

    Raises:
        WideneckError: settings that do not go together, no words, a folder of other settings, a
            model that cannot be used.
    """
    chosen = settings(request.scale, request.model, request.own.get("split"))
    words = request.own.get("words")
    # Of the words that are used, whatever file they came from.
    content = json.dumps(read_analogies(words)).encode()
    chosen = replace(chosen, words_sha256=hashlib.sha256(content).hexdigest())
    seeds = range(request.num_seeds)
    shared = {"paper": "histalign", **asdict(chosen)}
    with Store.opened(request.folder(chosen.scale), shared) as store:
        runs = all_runs(chosen, words, seeds, store, progress)
    return reproduction(chosen, runs)


def reproduction(chosen: Settings, runs: Sequence[Run]) -> Reproduction:
    """The table of finished runs, for all objectives and the same seeds of each."""
    by_name = {name: [run for run in runs if run.objective == name] for name in OBJECTIVES}
    return Reproduction(
        settings=asdict(chosen),
        objectives={name: COMMON | one.memory for name, one in OBJECTIVES.items()},
        runs=list(runs),
        summaries=[summarize(name, some) for name, some in by_name.items()],
        gaps=[
            gap(by_name[name], by_name[one.over])
            for name, one in OBJECTIVES.items()
            if one.over is not None
        ],
        **made_now("histalign"),
    )


def summarize(objective: str, runs: Sequence[Run]) -> Summary:
    """Mean and deviation of every figure."""
    return Summary(objective=objective, figures=over_seeds([figures(run) for run in runs]))


def gap(more: Sequence[Run], less: Sequence[Run]) -> Gap:
    """The differences of two objectives over the same seeds, in the same order."""
    assert [run.seed for run in more] == [run.seed for run in less]
    pairs = [(figures(a), figures(b)) for a, b in zip(more, less, strict=True)]
    return Gap(
        objective=more[0].objective,
        over=less[0].objective,
        figures=over_seeds([{name: a[name] - b[name] for name in a} for a, b in pairs]),
    )


def figures(run: Run) -> dict[str, float]:
    """The numbers of a run that a mean makes sense of, by name."""
    found: dict[str, Any] = {
        f"{view}.{k}": value
        for view in ("full", "model", "cache")
        for k, value in getattr(run, view).items()
    }
    names = ("memory_share", "loss", "loss_model", "rank", "rank_model", "seconds", "cpu_seconds")
    return found | {name: float(getattr(run, name)) for name in names}
