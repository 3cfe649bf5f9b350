"""What an audit found: one object, and its three faces."""

from dataclasses import dataclass

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.head import HeadAudit
from wideneck.audits.measure import measure
from wideneck.audits.memory.results import MemoryAudit
from wideneck.audits.output import OutputAudit
from wideneck.report.document import Document
from wideneck.report.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class Report(Document):
    """An audit.  Sections that were not asked for are None."""

    provenance: Provenance = measure("where the numbers come from")
    head: HeadAudit | None = measure("the output layer, from its weights", default=None)
    output: OutputAudit | None = measure("the output layer on a text", default=None)
    attention: AttentionAudit | None = measure("attention heads on a text", default=None)
    memory: MemoryAudit | None = measure(
        "what the context of a text holds of the next token", default=None
    )

    def to_html_text(self) -> str:
        """The HTML as a string."""
        from wideneck.report.html import render

        return render(self)

    def show(self) -> None:
        """Print a table of the main numbers on standard output."""
        from wideneck.report.console import PlainConsole
        from wideneck.report.terminal import show

        show(self, PlainConsole())
