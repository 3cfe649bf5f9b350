"""What the page has of the reproduction: curves, then the paper's words, and below them ours."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace
from typing import Any

from wideneck.lab.attention.curves import CURVES, Point
from wideneck.lab.attention.reproduction import Reproduction
from wideneck.lab.published import prose
from wideneck.lab.spread import Spread, cell, in_words
from wideneck.lab.tables import Line
from wideneck.lab.verdict import Comparison, published_cell
from wideneck.report.parts import BOTH, note, paragraph

RANGES = {
    (True, True): "{low:g} to {high:g}",
    (True, False): "\N{GREATER-THAN OR EQUAL TO} {low:g}",
    (False, True): "\N{LESS-THAN OR EQUAL TO} {high:g}",
    (False, False): "",
}
"""How a range is written that has a lower and an upper end, or has not."""


def said(found: Reproduction) -> dict[str, object]:
    """What the sentences of the page name besides what was found."""
    audit, minutes = found.runs[0].audit, found.published.find(measure="minutes")
    return {
        "audit": audit,
        "model": found.settings["model"] or "the default model",
        "num_heads": len(audit.heads),
        "seeds": in_words(len(found.runs)),
        "not_comparable": f"Not comparable: {found.other}." if found.other else "",
        "independent": found.published.one(row="three heads, if independent"),
        "minutes": ", ".join(result.printed for result in minutes),
        "minutes_here": statistics.fmean(run.seconds for run in found.runs) / 60,
    }


def parts(found: Reproduction) -> dict[str, Sequence[Any]]:
    """The points of the curves, the numbers and statements, and what cannot be compared."""
    claims = {claim.name: f"{claim.table}: {claim.says}" for claim in found.published.claims}
    left = [f"{claims[name]}. {why}" for name, why in found.not_compared.items()]
    left += [line.format_map(said(found)) for line in prose("attention")["not_compared"]]
    return {
        **{name: [_row(point) for point in getattr(found, name)] for name in CURVES},
        "numbers": [*_below(found.numbers, _number)],
        "claims": [*_below(found.claims, lambda claim: claims[claim.name])],
        "not_compared": [
            paragraph("Not compared:"),
            *(note(f"- {line}", face=BOTH) for line in left),
        ],
    }


def _row(point: Point) -> Any:
    return SimpleNamespace(
        place=f"{point.at:{'.3g' if point.at < 10 else 'g'}}",
        figures={name: _moved(figure) for name, figure in point.figures.items()},
    )


def _number(published: Any) -> str:
    return f"{published.table}: {published.measure}: {published_cell(published)}"


def _below(found: Sequence[Comparison], says: Callable[[Any], str]) -> Iterator[Any]:
    """What the paper has, and below each of it ours."""
    for published, several in groupby(found, lambda one: one.published):
        yield Line([says(published)])
        for one in several:
            none = f"none in {one.values.count(None)} of {len(one.values)}"
            yield SimpleNamespace(
                ours=one.ours,
                number=none if one.figure is None else cell(one.figure, 2),
                figure=_moved(one.figure),
                range=RANGES[one.low is not None, one.high is not None].format_map(vars(one)),
                verdict=one.verdict,
                kind=one.words.partition(":")[0],
            )


def _moved(figure: Spread | None) -> Spread | None:
    """What no seed moves is a formula's: it has no spread to show."""
    return None if figure is None else replace(figure, std=figure.std or None)
