"""A section of a report: one field of `Report` that says how it is measured and shown.

A new one is its measurement in `audits`, a `Section` in a module beside this one, a row of
`SECTIONS` and a field of `report.report.Report`; the audit, JSON, docs/report.md, terminal, page
and command line know it from there.  Imports no torch: the command line reads it for --help.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from wideneck.audits.measure import measure

if TYPE_CHECKING:
    from wideneck.audits.subject import Subject
    from wideneck.data import Windows
    from wideneck.report.reference import Reference

SECTIONS = {
    "head": "the output layer, from its weights",
    "output": "the output layer on a text",
    "cost": "what a cheaper output layer costs on a text",
    "attention": "attention heads on a text",
    "memory": "what the context of a text holds of the next token",
}
"""What an audit can measure: the fields of `Report` and their definitions."""
DEFAULT = ("head", "output")
"""What it measures if nothing else is asked for: a minute's work for the default model."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What an audit and its report have to know of a section."""

    audit: "Callable[[Subject], Any]"
    """What it finds; None, and a note of the subject, where the numbers do not allow it."""
    reads: bool = True
    """Whether it needs a text."""
    states: bool = True
    """Whether it takes the hidden states of a text, where one is read."""
    while_loaded: bool = False
    """Whether it measures the model itself, and so before the weights are freed."""
    watch: "Callable[[Windows], Any] | None" = None
    """Makes what sees the states of every depth as they pass (`audits.states.Observer`), and whose
    `keep` takes what it found of them."""
    summary: Callable[[Any], Sequence[str]]
    """The sentences that the report opens with."""
    blocks: "Callable[[Any, Reference], Iterable[Any]]"
    """Its parts (`wideneck.report.parts`) in their order; None for one that is not there."""
    headings: Mapping[str, str]
    """Path below the section, or "" -> the heading of the definitions there."""
    symbols: str = ""
    """What the letters in its definitions stand for."""


def section(definition: str, row: Section) -> Any:
    """The field of a section, None where it was not asked for."""
    found = measure(definition, default=None)
    return dataclasses.field(default=None, metadata={**found.metadata, "section": row})


def sections(report: type) -> dict[str, Section]:
    """The sections of a kind of report by name, in their order."""
    fields = dataclasses.fields(cast(Any, report))
    return {f.name: f.metadata["section"] for f in fields if "section" in f.metadata}
