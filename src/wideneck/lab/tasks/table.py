"""A task on a page and in 80 columns: objectives by how their memory is used, and differences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.published import prose
from wideneck.lab.spread import Paired, Spread, in_words
from wideneck.lab.tables import Line, table
from wideneck.lab.tasks.comparing import Row
from wideneck.lab.tasks.reproduction import Direction, Reproduction
from wideneck.report.parts import Heading, Table
from wideneck.report.reference import Reference

SAYS = prose("tasks")
Column = tuple[str, str, str]
"""Head, figure, and how it is written; with "%" in front a share in percent."""


def said(found: Reproduction) -> dict[str, Any]:
    """What the sentences of the page say that is computed."""
    settings = found.settings
    told, pairs, recipe = SAYS[settings["task"]], settings["pairs"], settings["recipe"]
    shape = recipe.get("shape")
    model = f"{settings['model']}, fine-tuned" if settings["model"] else "from scratch"
    if shape:
        model = (
            f"a BART from scratch ({shape['num_layers']} + {shape['num_layers']} layers, d = "
            f"{shape['hidden_size']}, V = {shape['vocab_size']:,})"
        )
    read = f"{settings['data']}, {pairs['train']:,} pairs of training"
    return {
        "task": told["name"],
        "data": read,
        "pairs": f"{len(found.runs[0].subjects):,} of the test are written",
        "model": model,
        "seeds": in_words(len({run.seed for run in found.runs})),
        "valid": f"{min(recipe['num_valid'], pairs['valid']):,} validation pairs",
        "groups": told["groups"],
        "measures": told["measures"],
        "cut": _cut(found),
    }


def _cut(found: Reproduction) -> str:
    """That sources were cut; empty where none was."""
    cut = found.runs[0].cut
    if not any(cut.values()):
        return ""
    counts = " and ".join(f"{number:,} of {split}" for split, number in cut.items())
    return (
        f"Longer than the {found.settings['recipe']['source_length']} tokens that are read, and so "
        f"cut: {counts}."
    )


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """Measures, differences, what the memory does, and the paper's signs."""
    told = SAYS[found.settings["task"]]
    yield [
        Heading("Texts", "texts", "Texts"),
        *(_rows(found, reference, **one, beside=found.beside) for one in told["tables"]),
    ]
    yield [
        Heading("Differences", "differences", "Differences"),
        *(_differences(found, reference, *one) for one in told["compared"]),
    ]
    yield [
        Heading("What differs and why", "why", "Why"),
        *(_rows(found, reference, **one) for one in SAYS["why"]),
    ]
    if found.directions:
        yield [
            Heading("The paper's signs", "signs", "Signs"),
            *_signs(found.directions, reference),
        ]


def _rows(
    found: Reproduction,
    reference: Reference,
    caption: str,
    columns: Sequence[Column],
    beside: Mapping[str, Mapping[str, float]] | None = None,
    trained: bool = False,
) -> Table:
    """Of all rows, or of those whose memory is used as it was trained."""
    lines: list[Any] = [row for row in found.rows if not trained or row.view == _own(row.objective)]
    for name, figures in (beside or {}).items():
        cells = [_written(figures.get(figure), how) for _, figure, how in columns]
        if any(cells):
            lines.append(Line([f"  {name}", *cells]))
    heads = [
        (head, lambda row, of=figure, how=how: _written(row.figures.get(of), how), "figures")
        for head, figure, how in columns
    ]
    return table(caption, lines, [("", _name), *heads], "rows[]", reference)


def _name(row: Row) -> str:
    return named((row.objective, row.view))


def named(which: tuple[str, str]) -> str:
    """An objective, and how its memory is used where that is not how it was trained."""
    objective, view = which
    title = SAYS["titles"][objective]
    return title if view == _own(objective) else f"{title}, {SAYS['views'][view]}"


def _own(objective: str) -> str:
    """How its memory is used: off where its likelihood is the model's alone."""
    return "off" if OBJECTIVES[objective].memory.get("loss") == "cross_entropy" else "full"


def _differences(
    found: Reproduction, reference: Reference, head: str, figure: str, how: str
) -> Table:
    """Of one measure: over seeds, over texts, and what could have been seen."""
    ours = [one for one in found.differences if figure in one.figures]
    return table(
        f"Difference of {head}{', % points' if how.startswith('%') else ''}",
        ours,
        [
            ("", lambda one: f"{named(one.ours)} - {named(one.theirs)}"),
            ("over seeds", lambda one: _interval(one.figures[figure], how), "figures"),
            ("over texts", lambda one: _interval(one.documents.get(figure), how), "documents"),
            (
                "visible",
                lambda one: _written(one.visible.get(figure), how.replace("+", "")),
                "visible",
            ),
        ],
        "differences[]",
        reference,
    )


def _interval(found: Paired | Estimate | None, how: str) -> str:
    """The mean with the ends of its interval."""
    if found is None:
        return ""
    mean = found.mean if isinstance(found, Paired) else found.value
    if found.low is None or found.high is None:
        return _written(mean, how)
    return f"{_written(mean, how)} [{_written(found.low, how)}, {_written(found.high, how)}]"


def _written(value: float | Spread | None, how: str) -> str:
    """A number; with "%" in front a share in percent."""
    if value is None:
        return ""
    if how.startswith("%"):
        value, how = value.percent if isinstance(value, Spread) else 100 * value, how[1:]
    if not isinstance(value, Spread):
        how = how.rstrip(" \N{PLUS-MINUS SIGN}")
    return format(value, how)


def _signs(found: Sequence[Direction], reference: Reference) -> Iterator[Table]:
    """Each data set's."""
    for data in dict.fromkeys(one.data for one in found):
        yield table(
            f"{data}: the paper's difference, and whether ours has its sign",
            [one for one in found if one.data == data],
            [
                ("", "{more} - {less}, {measure_name}"),
                ("paper", "{verdict.gap:+.2f}"),
                ("beside", "{beside}"),
                ("ours", "{verdict.words}"),
            ],
            "directions[]",
            reference,
            words=("beside", "ours"),
        )
