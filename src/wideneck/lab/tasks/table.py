"""A task on a page and in 80 columns: objectives by how their memory is used, and differences."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.published import prose
from wideneck.lab.spread import Paired, Spread, in_words
from wideneck.lab.tables import Theirs
from wideneck.lab.tasks.comparing import Difference, Row
from wideneck.lab.tasks.reproduction import Reproduction

SAYS = prose("tasks")


@dataclass(frozen=True)
class Shown:
    """A row over seeds under its name."""

    label: str
    figures: dict[str, Spread]


@dataclass(frozen=True)
class Apart:
    """A difference of one measure, written."""

    label: str
    seeds: str
    texts: str
    visible: str


def said(found: Reproduction) -> dict[str, Any]:
    """What the sentences of the page say that is computed."""
    settings = found.settings
    told = SAYS[settings["task"]]
    return {
        "task": told["name"],
        "data": settings["read"],
        "written": len(found.runs[0].subjects),
        "model": settings["described"],
        "seeds": in_words(len({run.seed for run in found.runs})),
        "groups": told["groups"],
        "measures": told["measures"],
        "counts": _counts(settings),
        "cut": _cut(found),
    }


def parts(found: Reproduction) -> dict[str, Sequence[Any]]:
    """The rows of the tables, by name."""
    told = SAYS[found.settings["task"]]
    rows = [Shown(_name(row), row.figures) for row in found.rows]
    trained = [
        Shown(SAYS["titles"][row.objective], row.figures)
        for row in found.rows
        if row.view == _own(row.objective)
    ]
    beside = [Theirs(f"  {name}", _cells(figures)) for name, figures in found.beside.items()]
    if found.settings["scale"] == "paper":
        beside += _published(found)
    differences = {
        figure: [_apart(one, figure, how) for one in found.differences if figure in one.figures]
        for _, figure, how in told["compared"]
    }
    signs = {
        data: [one for one in found.directions if one.data == data] for data in told["published"]
    }
    return {"rows": rows, "beside": [*rows, *beside], "trained": trained, **differences, **signs}


def _published(found: Reproduction) -> Iterator[Theirs]:
    """The paper's rows, of each of its data sets, under what of ours stands beside them.

    Not where several of its measures stand beside one of ours: none of them is that one.
    """
    told = SAYS[found.settings["task"]]
    several = Counter(told["beside"].values())
    for data in told["published"]:
        for row in SAYS["methods"]:
            results = found.published.find(data=data, row=row)
            cells = {
                f"{told['beside'][one.measure]}.percent": one.printed
                for one in results
                if several[told["beside"].get(one.measure)] == 1
            }
            yield Theirs(f"  paper, {data}, {row}", cells)


def named(which: tuple[str, str]) -> str:
    """An objective, and how its memory is used where that is not how it was trained."""
    objective, view = which
    title = SAYS["titles"][objective]
    return title if view == _own(objective) else f"{title}, {SAYS['views'][view]}"


def _name(row: Row) -> str:
    return named((row.objective, row.view))


def _own(objective: str) -> str:
    """How its memory is used: off where its likelihood is the model's alone."""
    return "off" if OBJECTIVES[objective].memory.get("loss") == "cross_entropy" else "full"


def _cells(figures: dict[str, float]) -> dict[str, str]:
    """Of what no model wrote: each figure, and in percent."""
    plain = {name: f"{value:.2f}" for name, value in figures.items()}
    return plain | {f"{name}.percent": f"{100 * value:.1f}" for name, value in figures.items()}


def _apart(one: Difference, figure: str, how: str) -> Apart:
    """With how a number is written; "%" in front: a share, in percent."""
    times, spec = (100, how[1:]) if how.startswith("%") else (1, how)
    visible = one.visible.get(figure)
    return Apart(
        f"{named(one.ours)} - {named(one.theirs)}",
        _interval(one.figures[figure], times, spec),
        _interval(one.documents.get(figure), times, spec),
        "" if visible is None else f"{times * visible:{spec.replace('+', '')}}",
    )


def _interval(found: Paired | Estimate | None, times: float, spec: str) -> str:
    """The mean with the ends of its interval."""
    if found is None:
        return ""
    mean = found.mean if isinstance(found, Paired) else found.value
    written = f"{times * mean:{spec}}"
    if found.low is None or found.high is None:
        return written
    return f"{written} [{times * found.low:{spec}}, {times * found.high:{spec}}]"


def _counts(settings: dict[str, Any]) -> str:
    """How many pairs or documents there are, by where they come from and by split."""
    heads = {"counts": "Pairs", "pairs": "By split", "documents": "Documents"}
    told = {head: settings[name] for name, head in heads.items() if name in settings}
    if told.get("By split") == told.get("Pairs"):
        told.pop("By split", None)
    return " ".join(
        f"{head}: {', '.join(f'{name} ({number:,})' for name, number in some.items())}."
        for head, some in told.items()
    )


def _cut(found: Reproduction) -> str:
    """That sources or targets were cut; empty where none was."""
    counts = [
        f"{name if ' ' in name else f'sources of {name}'} ({number:,})"
        for name, number in found.runs[0].cut.items()
        if number
    ]
    if not counts:
        return ""
    return f"Cut, being longer than what is read or written: {', '.join(counts)}."
