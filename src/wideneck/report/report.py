"""What an audit found: one object, and its three faces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wideneck.audit.head import HeadAudit
from wideneck.audit.measure import measure
from wideneck.audit.output import OutputAudit
from wideneck.report.fields import as_dict
from wideneck.report.files import json_text, write_text
from wideneck.report.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class Report:
    """An audit.  Sections that were not asked for are None."""

    provenance: Provenance = measure("where the numbers come from")
    head: HeadAudit | None = measure("the output layer, from its weights", default=None)
    output: OutputAudit | None = measure("the output layer on a text", default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts under the fields' names (docs/report.md)."""
        return as_dict(self)

    def to_json_text(self) -> str:
        """The JSON as a string."""
        return json_text(self.to_dict())

    def to_json(self, path: str | Path) -> None:
        """Write `to_json_text`; an earlier file stays whole until the new one is."""
        write_text(path, self.to_json_text())

    def to_html(self, path: str | Path) -> None:
        """One self-contained file, charts included, nothing fetched."""
        from wideneck.report.html import render

        write_text(path, render(self))

    def show(self) -> None:
        """Print a table of the main numbers on standard output."""
        from rich.console import Console

        from wideneck.report.terminal import show

        show(self, Console())
