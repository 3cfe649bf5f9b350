"""The reproduction on a page and in 80 columns: curves, then the paper's words beside ours."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from wideneck.lab.attention.reproduction import CURVES, Reproduction
from wideneck.lab.published import prose
from wideneck.lab.spread import Spread, cell, in_words
from wideneck.lab.tables import Cell, Columns, Line, table
from wideneck.lab.verdict import Comparison, published_cell
from wideneck.report.parts import BOTH, Heading, Table, note, paragraph
from wideneck.report.reference import Reference

NONE = "-"
RANGES = {
    (True, True): "{low:g} to {high:g}",
    (True, False): "\N{GREATER-THAN OR EQUAL TO} {low:g}",
    (False, True): "\N{LESS-THAN OR EQUAL TO} {high:g}",
    (False, False): "",
}
"""How a range is written that has a lower and an upper end, or has not."""
NUMBERS: Columns = (
    ("", "  {ours}"),
    ("ours", lambda one: _number(one)),
    ("gap", lambda one: NONE if one.verdict.gap is None else f"{one.verdict.gap:+.2f}"),
    ("verdict", lambda one: one.words.partition(":")[0]),
)
CLAIMS: Columns = (
    ("", "  {ours}"),
    ("ours", lambda one: _cell(one.figure, 2)),
    ("holds if", lambda c: RANGES[c.low is not None, c.high is not None].format_map(vars(c))),
    ("verdict", "{verdict.words}"),
)


def said(found: Reproduction) -> dict[str, object]:
    """What the sentences of the page name besides what was found."""
    audit, minutes = found.runs[0].audit, found.published.find(measure="minutes")
    return {
        "audit": audit,
        "model": found.settings["model"] or "the default model",
        "num_heads": len(audit.heads),
        "seeds": in_words(len(found.runs)),
        "independent": found.published.one(row="three heads, if independent"),
        "minutes": ", ".join(result.printed for result in minutes),
        "minutes_here": statistics.fmean(run.seconds for run in found.runs) / 60,
    }


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The curves, the numbers, the statements and what cannot be compared."""
    yield [
        Heading("What heads select", "curves", "Curves"),
        *(_curve(name, found, reference) for name in CURVES if getattr(found, name)),
    ]
    yield [
        *_beside(
            "numbers",
            found.numbers,
            lambda number: f"{number.table}: {number.measure}: {published_cell(number)}",
            NUMBERS,
            gap=1,
        ),
        paragraph(f"Not comparable: {found.other}.") if found.other else None,
    ]
    claims = {claim.name: f"{claim.table}: {claim.says}" for claim in found.published.claims}
    left = [f"{claims[name]}. {why}" for name, why in found.not_compared.items()]
    left += [line.format_map(said(found)) for line in prose("attention")["not_compared"]]
    yield [
        *_beside("statements", found.claims, lambda claim: claims[claim.name], CLAIMS, gap=0),
        paragraph("Not compared:"),
        *(note(f"- {line}", face=BOTH) for line in left),
    ]


def _curve(name: str, found: Reproduction, reference: Reference) -> Table:
    """A curve over seeds: a figure without a value in some seed has none here."""

    def figure(name: str, digits: int) -> Cell:
        return lambda point: _cell(point.figures.get(name), digits)

    curve = CURVES[name]
    at = (curve["letter"], lambda point: f"{point.at:{'.3g' if point.at < 10 else 'g'}}")
    columns = [at, *((head, figure(*written), "figures") for head, *written in curve["columns"])]
    caption = curve["caption"].format(found=found)
    return table(caption, getattr(found, name), columns, f"{name}[]", reference)


def _beside(
    what: str,
    found: Sequence[Comparison],
    says: Callable[[Any], str],
    columns: Columns,
    *,
    gap: int,
) -> Iterator[Heading | Table]:
    """What the paper has, and below each of it ours."""
    title, rows = f"The paper's {what}", []
    for published, ours in groupby(found, lambda one: one.published):
        rows += [Line([says(published)]), *ours]
    yield Heading(title, what, what.capitalize())
    caption = f"{title}, and below each of them ours"
    yield table(caption, rows, columns, gap=gap, words=["verdict"])


def _number(one: Comparison) -> str:
    if one.figure is None:
        return f"none in {one.values.count(None)} of {len(one.values)}"
    return cell(one.figure, 2)


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return NONE
    # What no seed moves is a formula's: it has no spread to show.
    return f"{spread.mean:.{digits}f}" if spread.std == 0 else cell(spread, digits)
