"""The reproduction on a page and in 80 columns: ours over seeds, the paper's lines below."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.histalign.reproduction import Gap, Reproduction, Summary
from wideneck.lab.published import prose
from wideneck.lab.spread import in_words
from wideneck.lab.tables import Line, table
from wideneck.report.parts import Heading, Table
from wideneck.report.reference import Reference


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """Those of `prose`: each table is of summaries or gaps, in columns of one figure each."""
    for section in prose("histalign")["sections"]:
        yield [
            Heading(*section["heading"]),
            *(_shown(found, reference, **one) for one in section["tables"]),
        ]


def _shown(
    found: Reproduction,
    reference: Reference,
    caption: str,
    ours: str,
    columns: Sequence[tuple[str, str, str]],
) -> Table:
    rows = _lined(found, getattr(found, ours), [figure for _, figure, _ in columns])
    written = [(head, f"{{{figure}:{spec}}}") for head, figure, spec in columns]
    return table(caption, rows, [("", _name), *written], f"{ours}[]", reference)


def _name(row: Summary | Gap) -> str:
    if isinstance(row, Gap):
        return f"over {OBJECTIVES[row.over].title}"
    return OBJECTIVES[row.objective].title


def _lined(
    found: Reproduction, ours: Sequence[Summary | Gap], measures: Iterable[str]
) -> Iterator[Any]:
    """Each of ours, and below it what the paper has of its method for each of its models."""
    for one in ours:
        yield one
        for model in dict.fromkeys(number.data for number in found.published.results):
            cells = [_printed(found, one, data=model, measure=name) for name in measures]
            if any(cells):
                yield Line([f"  paper, {model}", *cells])


def _printed(found: Reproduction, ours: Summary | Gap, **wanted: str) -> str:
    """The paper's number, or its method's difference to what it adds to; empty where none is."""
    names = [ours.objective, ours.over] if isinstance(ours, Gap) else [ours.objective]
    methods = [OBJECTIVES[name].method or "" for name in names]
    numbers = [one for row in methods for one in found.published.find(row=row, **wanted)]
    if len(numbers) < len(names):
        return ""
    if isinstance(ours, Gap):
        return f"{numbers[0].value - numbers[1].value:+.2f}"
    return numbers[0].printed


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
