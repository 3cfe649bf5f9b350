"""Objectives over seeds, and what each adds to another: over seeds, and over documents."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.measure import measure
from wideneck.lab.spread import Paired, Spread, over_seeds, paired
from wideneck.lab.tasks.measures import mean_known
from wideneck.lab.tasks.runs import Run, View
from wideneck.lab.tasks.views import WRITTEN

Which = tuple[str, str]
"""An objective and a view."""
PLAIN, CACHE = ("cross_entropy", "off"), ("cross_entropy", "fitted")
TRIME, HISTALIGN = ("trime", "full"), ("trime_histalign", "full")
COMPARED: tuple[tuple[Which, Which], ...] = (
    (CACHE, PLAIN),
    (TRIME, PLAIN),
    (HISTALIGN, PLAIN),
    (TRIME, CACHE),
    (HISTALIGN, CACHE),
    (HISTALIGN, TRIME),
    (("trime", "off"), PLAIN),
    (("trime_histalign", "off"), PLAIN),
    (("cross_entropy_histalign", "off"), PLAIN),
    (HISTALIGN, ("trime_histalign", "off")),
)
"""What is compared with what."""
LOSS = "loss"
Sides = tuple[Sequence[float | None], Sequence[float | None]]
"""Of one seed: a measure of every text, ours and theirs."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One objective in one view, over seeds."""

    objective: str = measure("name of the objective")
    view: str = measure('its memory: "off", as trained ("full"), or "fitted" afterwards')
    figures: dict[str, Spread] = measure(
        "measures of its texts, its loss and its memory by name, over seeds"
    )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row minus another, between runs of equal seed."""

    ours: tuple[str, str] = measure("objective and view")
    theirs: tuple[str, str] = measure("what is subtracted")
    figures: dict[str, Paired] = measure("over seeds, by name")
    visible: dict[str, float] = measure(
        "by name, the difference that a paired t-test at 5 % over as many seeds would see in 80 % "
        "of repetitions, from the deviation of these"
    )
    documents: dict[str, Estimate] = measure(
        "by name, the mean over seeds with an interval over test documents; none for measures of "
        "all texts together"
    )


def rows(runs: Sequence[Run]) -> list[Row]:
    """Every objective in every view that it writes by."""
    return [
        Row(objective=name, view=view, figures=over_seeds([figures(run, view) for run in some]))
        for name, some in _by_objective(runs).items()
        for view in WRITTEN[name]
    ]


def figures(run: Run, view: str) -> dict[str, float | None]:
    """The numbers of a run in a view, by name."""
    found = run.views[view]
    return {
        LOSS: fmean(found.losses),
        "memory_share": found.memory_share,
        **{name: mean_known(values) for name, values in found.each.items()},
        **found.whole,
        **{name: getattr(run, name) for name in ("alignment", "alignment_before", "rank")},
        "rank_model": run.rank_model,
        "seconds": run.seconds,
        **{f"right_{name}": share for name, share in run.right.items()},
    }


def differences(runs: Sequence[Run]) -> Iterator[Difference]:
    """Those of `COMPARED` whose objectives have run."""
    found = _by_objective(runs)
    for ours, theirs in COMPARED:
        if ours[0] in found and theirs[0] in found:
            yield _difference(ours, theirs, found[ours[0]], found[theirs[0]])


def _difference(ours: Which, theirs: Which, mine: Sequence[Run], other: Sequence[Run]):
    two = [(figures(a, ours[1]), figures(b, theirs[1])) for a, b in zip(mine, other, strict=True)]
    of_seeds = {
        name: paired(apart)
        for name in two[0][0]
        if len(apart := list(_apart([(a.get(name), b.get(name)) for a, b in two]))) == len(two)
    }
    return Difference(
        ours=ours,
        theirs=theirs,
        figures=of_seeds,
        visible={name: seen for name, one in of_seeds.items() if (seen := one.visible) is not None},
        documents=dict(
            _over_documents(
                mine,
                [(a.views[ours[1]], b.views[theirs[1]]) for a, b in zip(mine, other, strict=True)],
            )
        ),
    )


def _apart(sides: Iterable[tuple[float | None, float | None]]) -> Iterator[float]:
    """Ours minus theirs, where both are there."""
    return (a - b for a, b in sides if a is not None and b is not None)


def _over_documents(
    runs: Sequence[Run], views: Sequence[tuple[View, View]]
) -> Iterator[tuple[str, Estimate]]:
    """Of every measure of single texts, over those that both sides have something to say of."""
    losses: list[Sides] = [(a.losses, b.losses) for a, b in views]
    measured = [(LOSS, losses, runs[0].documents)]
    for name in views[0][0].each:
        if name in views[0][1].each:
            each: list[Sides] = [(a.each[name], b.each[name]) for a, b in views]
            measured.append((name, each, runs[0].subjects))
    for name, sides, groups in measured:
        found = _estimate(sides, groups)
        if found is not None:
            yield name, found


def _estimate(sides: Sequence[Sides], groups: Sequence[int]) -> Estimate | None:
    """The mean of ours minus theirs; all seeds of one text belong to its document."""
    values = torch.tensor(
        [
            [math.nan if a is None or b is None else a - b for a, b in zip(*two, strict=True)]
            for two in sides
        ],
        dtype=torch.float64,
    ).T
    known = values.isfinite()
    if not known.any():
        return None
    return estimate(values.nan_to_num(), torch.tensor(groups), known)


def _by_objective(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each, by seed."""
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        found.setdefault(run.objective, []).append(run)
    return {name: found[name] for name in WRITTEN if name in found}
