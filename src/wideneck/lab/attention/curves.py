"""Curves over seeds: over N, over L and over T."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.measure import measure
from wideneck.lab.published import ours
from wideneck.lab.spread import Spread, over_seeds

CURVES = ours("attention", "curves")
"""By the name of the field of `Reproduction`."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One N, one L, or one T, over seeds."""

    at: float = measure("N, L or T")
    figures: dict[str, Spread] = measure("by name; those that every seed has")


def points(audits: Sequence[AttentionAudit], curve: dict[str, Any]) -> list[Point]:
    """The points that every seed has; those of one place are one."""
    figures = dict((f, f) if isinstance(f, str) else f for f in curve["figures"])
    found: list[dict[float, dict[str, float | None]]] = [{} for _ in audits]
    for audited, by_place in zip(audits, found, strict=True):
        for point in getattr(audited, curve["of"]):
            by_place.setdefault(getattr(point, curve["at"]), {}).update(
                {name.format(point): attrgetter(path)(point) for name, path in figures.items()}
            )
    shared = [place for place in found[0] if all(place in other for other in found)]
    return [Point(at=x, figures=over_seeds([one[x] for one in found])) for x in shared]
