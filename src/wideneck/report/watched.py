"""A watched run as a page: curves, the newest numbers, and what stands out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wideneck.audits.measure import measure
from wideneck.errors import WideneckError
from wideneck.report.document import Document
from wideneck.report.numbers import number
from wideneck.report.parts import (
    BOTH,
    Column,
    Heading,
    Page,
    Pair,
    Panel,
    Table,
    Terms,
    Verbatim,
    lede,
    line,
    note,
)
from wideneck.report.provenance import stamped
from wideneck.report.reference import Reference
from wideneck.report.watched_charts import STEPS, charts
from wideneck.watching.lines import read_lines
from wideneck.watching.notes import notes
from wideneck.watching.quantities import Watched

SYMBOLS = (
    "N sampled tokens, V vocabulary, d hidden size; h the state that enters the output layer, W "
    "its matrix (V x d), z the scores that the softmax sees, p the prediction, mu the mean row."
)
NO_VERDICT = (
    "Notes name thresholds that a run has passed and what is known of them. None is a verdict: "
    "read the curves."
)


@dataclass(frozen=True, kw_only=True)
class WatchReport(Document):
    """What was watched of a run."""

    file: str = measure("the file of lines")
    steps: list[Watched] = measure("the steps that were looked at, in order")
    notes: list[str] = measure("thresholds that were passed, with what is known of them")
    versions: dict[str, str] = measure("software that drew this")
    command: str = measure("what was run")
    time: str = measure("when, UTC")

    def page(self, reference: Reference) -> Page:
        """Curves first, then the table of the newest numbers."""
        return Page(
            kicker="wideneck watch",
            title=self.file,
            opening=[lede(_summary(self.steps)), *_notes(self.notes)],
            sections=[list(_charts(self.steps, reference)), list(_newest(self.steps))],
            source=list(_source(self)),
            headings={"steps": "Quantities", "notes": "Notes", "file": "Provenance"}
            | dict.fromkeys(("versions", "command", "time"), "Provenance"),
            symbols=[SYMBOLS],
        )


def watch_report(path: str | Path) -> WatchReport:
    """Read a file of `Watch`, or the metrics.jsonl of a run with a [watch] table.

    Raises:
        WideneckError: it cannot be read, holds no lines of ours, or no step was watched.
    """
    steps = read_lines(path)
    if not any(_known(step) - {"step", "loss", "valid_loss"} for step in steps):
        raise WideneckError(
            f"{path} holds no watched step: it is written by wideneck.Watch(file=...), or by a "
            f"recipe with a [watch] table ({len(steps):,} lines with other numbers)."
        )
    return stamped(WatchReport, file=str(path), steps=steps, notes=notes(steps))


def _known(step: Watched) -> set[str]:
    return {name for name, value in vars(step).items() if value is not None}


def _summary(steps: Sequence[Watched]) -> str:
    return (
        f"{len(steps):,} steps were looked at, from {steps[0].step:,} to {steps[-1].step:,}. "
        "Each number is of the weights before that step's update."
    )


def _notes(found: list[str]) -> Iterator[Any]:
    yield line(NO_VERDICT if found else "No threshold of the notes was passed.")
    yield note(NO_VERDICT if found else "No threshold of the notes was passed.")
    for text in found:
        yield line(text)
        yield note(text, css="flag")


def _charts(steps: Sequence[Watched], reference: Reference) -> Iterator[Any]:
    yield Heading("Along training", "charts", "Curves")
    yield Pair([Panel(chart, reference[path].definition, path) for chart, path in charts(steps)])


def _newest(steps: Sequence[Watched]) -> Iterator[Any]:
    yield Heading("First and newest numbers", "newest", "Numbers")
    rows = []
    for name in vars(steps[0]):
        known = [
            (step.step, getattr(step, name)) for step in steps if getattr(step, name) is not None
        ]
        if name == "step" or not known:
            continue
        (_, first), (at, last) = known[0], known[-1]
        values = [v for _, v in known]
        cells = [number(first), number(min(values)), number(max(values)), number(last), f"{at:,}"]
        rows.append((name.replace("_", " "), f"{STEPS}.{name}", cells))
    columns = [Column(text) for text in ("first", "smallest", "largest", "newest", "of step")]
    yield Table("Numbers", columns, rows, first="quantity", captioned=False, face=BOTH)


def _source(report: WatchReport) -> Iterator[Any]:
    yield Heading("Provenance", "provenance", "Provenance")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    yield Terms(
        [
            ("file", [Verbatim(report.file, code=True)]),
            ("command", [Verbatim(report.command, code=True)]),
            ("drawn with", [versions]),
            ("time", [report.time]),
        ]
    )
