"""What the page has of the reproduction: ours over seeds, the paper's lines below."""

import statistics
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.histalign.reproduction import Gap, Reproduction, Summary
from wideneck.lab.published import prose
from wideneck.lab.spread import in_words
from wideneck.lab.tables import Theirs


def said(found: Reproduction) -> dict[str, Any]:
    """What the sentences of the page say that is computed."""
    model = prose("histalign")["from_scratch" if found.settings["model"] is None else "fine_tuned"]
    return {
        "model": model.format(found=found),
        "seeds": in_words(len({run.seed for run in found.runs})),
        "num_runs": len(found.runs),
        "seconds": statistics.fmean(run.seconds for run in found.runs),
        "cpu": statistics.fmean(run.cpu_seconds for run in found.runs),
    }


def parts(found: Reproduction) -> dict[str, list[Any]]:
    """The rows of the tables."""
    return {"summaries": [*_lined(found, found.summaries)], "gaps": [*_lined(found, found.gaps)]}


def _lined(found: Reproduction, ours: Sequence[Summary | Gap]) -> Iterator[Any]:
    """Each of ours, and below it what the paper has of its method for each of its models."""
    for one in ours:
        over = one.over if isinstance(one, Gap) else None
        title = (
            OBJECTIVES[one.objective].title if over is None else f"over {OBJECTIVES[over].title}"
        )
        yield SimpleNamespace(title=title, figures=one.figures)
        for model in dict.fromkeys(number.data for number in found.published.results):
            yield Theirs(f"  paper, {model}", _printed(found, one.objective, over, model))


def _printed(found: Reproduction, objective: str, over: str | None, model: str) -> dict[str, str]:
    """The paper's numbers by measure, or its method's differences to what it adds to."""
    more, less = (
        {n.measure: n for n in found.published.find(data=model, row=OBJECTIVES[name].method or "")}
        for name in (objective, over or objective)
    )
    if over is None:
        return {measure: number.printed for measure, number in more.items()}
    both = more.keys() & less.keys()
    return {name: f"{more[name].value - less[name].value:+.2f}" for name in both}
