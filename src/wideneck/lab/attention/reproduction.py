"""The whole reproduction: runs over seeds, their curves, the paper's words beside them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import Text
from wideneck.files.store import Store
from wideneck.lab.attention.claims import NOT_COMPARED, judged_claims, judged_numbers
from wideneck.lab.attention.runs import Run, all_runs, text_of
from wideneck.lab.attention.settings import Settings, settings
from wideneck.lab.found import Found, made_now
from wideneck.lab.registry import Request
from wideneck.lab.spread import Spread, spread_of_all
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

    Args:
        request: the command line; seeds are 0, 1, ...
        progress: called as progress(stage, done, total).

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
        by_size=_points(audits, _of_sizes),
        by_length=_points(audits, _of_lengths),
        by_temperature=_points(audits, _of_temperatures),
        numbers=judged_numbers(published, audits, other),
        claims=judged_claims(published, audits),
        not_compared=NOT_COMPARED,
        **made,
    )


Curve = dict[float, dict[str, float | None]]
"""By N, L or T: figures by name."""


def _points(audits: Sequence[AttentionAudit], curve: Callable[[AttentionAudit], Curve]):
    curves = [curve(audit) for audit in audits]
    shared = [at for at in curves[0] if all(at in other for other in curves)]
    return [Point(at=at, figures=_over_seeds([c[at] for c in curves])) for at in shared]


def _over_seeds(given: Sequence[dict[str, float | None]]) -> dict[str, Spread]:
    found = {name: spread_of_all([figures[name] for figures in given]) for name in given[0]}
    return {name: figure for name, figure in found.items() if figure is not None}


MEANS = ("distance", "bound", "expected_paper", "expected_monte_carlo")


def _of_sizes(audit: AttentionAudit) -> Curve:
    names = ("mass", *MEANS, "expected_upper", "separability_lower", "separability_upper")
    return {
        point.size: {name: getattr(point, name) for name in names}
        | {
            "separability": point.separability.median,
            "separability_highest": point.separability.highest,
        }
        for point in audit.by_size
    }


def _of_lengths(audit: AttentionAudit) -> Curve:
    return {
        point.length: {name: getattr(point, name) for name in MEANS}
        | {"effective_keys": point.effective_keys.median}
        for point in audit.by_length
    }


def _of_temperatures(audit: AttentionAudit) -> Curve:
    found: Curve = {}
    for point in audit.by_step:
        figures = found.setdefault(point.temperature, {})
        figures[f"step {point.step:g}"] = point.largest_head
        figures |= {
            name: getattr(point, name) for name in ("spectral", "spectral_highest", "paper_bound")
        }
    return found
