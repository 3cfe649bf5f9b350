"""What a series of checkpoints found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wideneck.audits.head import HeadAudit
from wideneck.audits.measure import measure
from wideneck.report.document import Document
from wideneck.report.head import GEOMETRY, SYMBOLS
from wideneck.report.numbers import UNMEASURED, known, number, optional, share
from wideneck.report.parts import (
    BOTH,
    Column,
    Heading,
    Measure,
    Notes,
    Page,
    Pair,
    Panel,
    Strong,
    Table,
    Verbatim,
    cells,
    lede,
    line,
    note,
)
from wideneck.report.provenance import Provenance, shown
from wideneck.report.reference import Reference
from wideneck.report.series_charts import HEAD, series_charts


@dataclass(frozen=True, kw_only=True)
class SeriesPoint:
    """One checkpoint."""

    name: str = measure("the checkpoint, as it was named")
    step: int = measure("training step, read off the name; the place in the series if it has none")
    head: HeadAudit = measure("its output layer, from the weights")


@dataclass(frozen=True, kw_only=True)
class SeriesReport(Document):
    """The head's measures over training."""

    provenance: Provenance = measure("where the numbers come from")
    points: list[SeriesPoint] = measure("the checkpoints in the order of their steps")
    identical: list[list[str]] = measure(
        "groups of checkpoints whose heads are equal in every stored bit",
        caution="a trajectory through them is not one of training",
    )

    def page(self, reference: Reference) -> Page:
        """First of all the heads that are identical; then charts, and one row per checkpoint."""
        return Page(
            kicker="wideneck audit, series",
            title=self.provenance.model,
            opening=[lede(" ".join(_summary(self.points))), *_identical(self, reference)],
            sections=[list(_charts(self, reference)), list(_checkpoints(self.points))],
            source=shown(self.provenance),
            headings={
                "points": "Checkpoints",
                "identical": "Checkpoints",
                "provenance": "Provenance",
            },
            symbols=[SYMBOLS],
        )


def _summary(points: list[SeriesPoint]) -> Iterator[str]:
    """First and last checkpoint."""
    first, last = points[0], points[-1]
    shape = f"{last.head.vocab_size:,} x {last.head.hidden_size:,}"
    yield f"{len(points)} heads of {shape}, from step {first.step:,} to step {last.step:,}."
    ends = [point.head.spectrum.centred.kl_sigma2 for point in (first, last)]
    null = last.head.spectrum.null.kl_sigma2
    if all(map(known, [*ends, null])):
        yield (
            f"The singular entropy of the centred head goes from {number(ends[0])} to "
            f"{number(ends[1])} nats, where a Gaussian matrix has {number(null)}."
        )
    shares = [point.head.mean_row_share for point in (first, last)]
    if all(map(known, shares)):
        yield (
            "The mean row's share of the largest squared singular value goes from "
            f"{share(shares[0])} to {share(shares[1])}."
        )


def _identical(report: SeriesReport, reference: Reference) -> Iterator[Any]:
    if not report.identical:
        return
    groups = [
        [Verbatim(" = ".join(group), most=sum(map(len, group)) + 9 * len(group))]
        for group in report.identical
    ]
    for group in groups:
        yield line(Strong("Identical heads: "), *group)
    yield line("A trajectory through identical heads is not one of training.")
    yield note(
        Strong("Identical heads."),
        " These checkpoints hold the same head in every stored bit, under different names (rings "
        f"in the charts). {reference['identical'].caution}",
        css="flag",
    )
    yield from (note(*group, css="flag") for group in groups)


def _charts(report: SeriesReport, reference: Reference) -> Iterator[Any]:
    again = {name for group in report.identical for name in group}
    hollow = frozenset(i for i, point in enumerate(report.points) if point.name in again)
    steps, heads = zip(*((point.step, point.head) for point in report.points), strict=True)
    yield Heading("The head along training", "charts", "Measures")
    yield note(GEOMETRY.format("the heads"))
    yield Pair(
        [
            Panel(chart, reference[path].definition, path)
            for chart, path in series_charts(list(steps), heads, hollow)
        ]
    )


def _checkpoints(points: list[SeriesPoint]) -> Iterator[Any]:
    yield Heading("Checkpoints", "checkpoints", "Checkpoints")
    yield series_table(points)
    for point in points:
        yield Notes([f"Step {point.step:,}: {note}" for note in point.head.notes])


MEASURES: Sequence[Measure] = (
    ("head", "sha256", lambda sha256: sha256[:10]),
    ("entropy, raw", "spectrum.raw.kl_sigma2", number),
    ("centred", "spectrum.centred.kl_sigma2", number),
    ("eff. rank, centred", "spectrum.centred.effective_rank", number),
    ("stable rank, centred", "spectrum.centred.stable_rank", number),
    ("mean row", "mean_row_share", share),
    ("median norm", "row_norms.median", number),
)
SEARCHED: Measure = (
    "never first",
    "argmaxable",
    optional(UNMEASURED, lambda found: number(len(found.unargmaxable))),
)


def series_table(points: list[SeriesPoint]) -> Table:
    """The checkpoints with their hashes and the main numbers, and what a Gaussian matrix has."""
    searched = any(point.head.argmaxable is not None for point in points)
    measures = (*MEASURES, SEARCHED) if searched else MEASURES
    columns = [
        Column(text, f"{HEAD}.{path}", verbatim=path == "sha256", wide=path.endswith("stable_rank"))
        for text, path, _ in measures
    ]
    columns.append(Column("checkpoint", "points[].name", verbatim=True, wide=True))
    rows = [(f"{point.step:,}", "", [*cells(point.head, measures), point.name]) for point in points]
    null, rest = points[-1].head.spectrum.null, [""] * (len(columns) - 6)
    entropy, mean_row = number(null.kl_sigma2), share(null.stable_rank / points[-1].head.vocab_size)
    ranks = [number(null.effective_rank), number(null.stable_rank)]
    rows.append(("Gaussian", "", ["", entropy, entropy, *ranks, mean_row, *rest]))
    return Table("Checkpoints", columns, rows, first="step", captioned=False, face=BOTH)
