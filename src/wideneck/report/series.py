"""What a series of checkpoints found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wideneck.audit.head import HeadAudit
from wideneck.audit.measure import measure
from wideneck.report.fields import as_dict
from wideneck.report.files import json_text, write_text
from wideneck.report.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class SeriesPoint:
    """One checkpoint."""

    name: str = measure("the checkpoint, as it was named")
    step: int = measure("training step, read off the name; the place in the series if it has none")
    head: HeadAudit = measure("its output layer, from the weights")


@dataclass(frozen=True, kw_only=True)
class SeriesReport:
    """The head's measures over training."""

    provenance: Provenance = measure("where the numbers come from")
    points: list[SeriesPoint] = measure("the checkpoints in the order of their steps")
    identical: list[list[str]] = measure(
        "groups of checkpoints whose heads are equal in every stored bit",
        caution="a trajectory through them is not one of training",
    )

    def to_dict(self) -> dict[str, Any]:
        """As `Report.to_dict`."""
        return as_dict(self)

    def to_json_text(self) -> str:
        """As `Report.to_json_text`."""
        return json_text(self.to_dict())

    def to_json(self, path: str | Path) -> None:
        """As `Report.to_json`."""
        write_text(path, self.to_json_text())

    def to_html(self, path: str | Path) -> None:
        """As `Report.to_html`."""
        from wideneck.report.html import render_series

        write_text(path, render_series(self))

    def show(self) -> None:
        """As `Report.show`."""
        from rich.console import Console

        from wideneck.report.terminal import show_series

        show_series(self, Console())
