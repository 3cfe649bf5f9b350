"""What a series of checkpoints found."""

from dataclasses import dataclass

from wideneck.audits.head import HeadAudit
from wideneck.audits.measure import measure
from wideneck.report.document import Document
from wideneck.report.provenance import Provenance


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

    def to_html_text(self) -> str:
        """The HTML as a string."""
        from wideneck.report.html import render_series

        return render_series(self)

    def show(self) -> None:
        """Print a table of the main numbers on standard output."""
        from wideneck.report.console import PlainConsole
        from wideneck.report.terminal import show_series

        show_series(self, PlainConsole())
