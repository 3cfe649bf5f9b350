"""The whole table: settings, runs, summaries and gaps beside what the paper prints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.files.store import Store
from wideneck.lab.ambiguous.words import read_analogies
from wideneck.lab.found import Found, made_now
from wideneck.lab.histalign.objectives import COMMON, OBJECTIVES
from wideneck.lab.histalign.results import Gap, Run, Summary, gap, summarize
from wideneck.lab.histalign.runs import all_runs
from wideneck.lab.histalign.settings import Settings, settings
from wideneck.lab.histalign.task import sha256_of
from wideneck.lab.registry import Request


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

    Args:
        request: the command line; seeds are 0, 1, ...
        progress: called as progress(stage, done, total).

    Raises:
        WideneckError: settings that do not go together, no words, a folder of other settings, a
            model that cannot be used.
    """
    chosen = settings(request.scale, request.model, request.own.get("split"))
    words = request.own.get("words")
    chosen = replace(chosen, words_sha256=sha256_of(read_analogies(words)))
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
