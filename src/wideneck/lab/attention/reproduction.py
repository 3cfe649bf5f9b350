"""The whole reproduction: runs over seeds, their curves, the paper's words beside them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import Any

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import Text
from wideneck.files.store import Store
from wideneck.lab.attention.claims import NOT_COMPARED, judged_claims, judged_numbers
from wideneck.lab.attention.runs import Run, Settings, all_runs, settings, text_of
from wideneck.lab.found import Found, made_now
from wideneck.lab.registry import Request
from wideneck.lab.spread import Spread, over_seeds
from wideneck.lab.verdict import Comparison


@dataclass(frozen=True, kw_only=True)
class Point:
    """One N, one L, or one T, over seeds."""

    at: float = measure("N, L or T")
    figures: dict[str, Spread] = measure("by name; those that every seed has")


@dataclass(frozen=True, kw_only=True)
class Reproduction(Found):
    """What `wideneck reproduce attention` finds."""

    settings: dict[str, Any] = measure("what is measured, shared by all runs")
    text: str = measure("the text")
    other: str = measure("what is not as in the paper, so that numbers do not compare; or empty")
    runs: list[Run] = measure("each seed")
    by_size: list[Point] = measure("over N: fields of runs[].audit.by_size[]")
    by_length: list[Point] = measure("over L: fields of runs[].audit.by_length[]")
    by_temperature: list[Point] = measure(
        "over T: finite differences by step, and fields of runs[].audit.by_step[]"
    )
    numbers: list[Comparison] = measure("published numbers beside ours")
    claims: list[Comparison] = measure("published statements beside figures of ours")
    not_compared: dict[str, str] = measure("statements by name, and why ours says nothing of them")


def reproduce(request: Request, progress: Progress) -> Reproduction:
    """Measure the seeds that the folder does not hold, and compare.

    Raises:
        WideneckError: no text for the paper's scale, a folder of other settings, a model that
            cannot be used.
    """
    chosen = settings(request)
    text = text_of(request.text)
    chosen = replace(chosen, text_sha256=text.sha256)
    shared = {"paper": "attention", **asdict(chosen)}
    with Store.opened(request.folder(chosen.scale), shared) as store:
        runs = all_runs(chosen, text, request.num_seeds, store, progress)
    return reproduction(chosen, text, runs, default_text=request.text is None)


def reproduction(
    chosen: Settings, text: Text, runs: Sequence[Run], *, default_text: bool
) -> Reproduction:
    """The comparison of finished runs."""
    made = made_now("attention")
    published = made["published"]
    audits = [run.audit for run in runs]
    other = chosen.other(default_text=default_text)
    return Reproduction(
        settings=asdict(chosen),
        text=text.name,
        other=other,
        runs=list(runs),
        by_size=_points(audits, "by_size", "size", SIZES),
        by_length=_points(audits, "by_length", "length", LENGTHS),
        by_temperature=_points(audits, "by_step", "temperature", TEMPERATURES),
        numbers=judged_numbers(published, audits, other),
        claims=judged_claims(published, audits),
        not_compared=NOT_COMPARED,
        **made,
    )


MEANS = {name: name for name in ("distance", "bound", "expected_paper", "expected_monte_carlo")}
SIZES = {
    "mass": "mass",
    **MEANS,
    **{n: n for n in ("expected_upper", "separability_lower", "separability_upper")},
    "separability": "separability.median",
    "separability_highest": "separability.highest",
}
LENGTHS = {**MEANS, "effective_keys": "effective_keys.median"}
TEMPERATURES = {
    "step {0.step:g}": "largest_head",
    **{n: n for n in ("spectral", "spectral_highest", "paper_bound")},
}
"""What figures of a point are called, and the attributes that they are."""


def _points(
    audits: Sequence[AttentionAudit], curve: str, at: str, figures: dict[str, str]
) -> list[Point]:
    """The points that every seed has; those of one place are one."""
    found: list[dict[float, dict[str, float | None]]] = [{} for _ in audits]
    for audit, by_place in zip(audits, found, strict=True):
        for point in getattr(audit, curve):
            by_place.setdefault(getattr(point, at), {}).update(
                {name.format(point): attrgetter(path)(point) for name, path in figures.items()}
            )
    shared = [place for place in found[0] if all(place in other for other in found)]
    return [Point(at=x, figures=over_seeds([one[x] for one in found])) for x in shared]
