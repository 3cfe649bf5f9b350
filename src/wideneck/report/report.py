"""What an audit found."""

from dataclasses import dataclass

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.cost.results import CostAudit
from wideneck.audits.head import HeadAudit
from wideneck.audits.measure import measure
from wideneck.audits.memory.results import MemoryAudit
from wideneck.audits.output import OutputAudit
from wideneck.report.attention import SECTION as ATTENTION
from wideneck.report.cost import SECTION as COST
from wideneck.report.document import Document
from wideneck.report.head import SECTION as HEAD
from wideneck.report.head import SYMBOLS
from wideneck.report.memory import SECTION as MEMORY
from wideneck.report.output import SECTION as OUTPUT
from wideneck.report.parts import Page, lede
from wideneck.report.provenance import Provenance, shown
from wideneck.report.reference import Reference
from wideneck.report.section import SECTIONS, section, sections


@dataclass(frozen=True, kw_only=True)
class Report(Document):
    """An audit.  Sections that were not asked for are None."""

    provenance: Provenance = measure("where the numbers come from")
    head: HeadAudit | None = section(SECTIONS["head"], HEAD)
    output: OutputAudit | None = section(SECTIONS["output"], OUTPUT)
    cost: CostAudit | None = section(SECTIONS["cost"], COST)
    attention: AttentionAudit | None = section(SECTIONS["attention"], ATTENTION)
    memory: MemoryAudit | None = section(SECTIONS["memory"], MEMORY)

    def page(self, reference: Reference) -> Page:
        """Every section that was asked for, in the order of the fields."""
        rows = sections(type(self))
        found = {name: getattr(self, name) for name in rows if getattr(self, name) is not None}
        return Page(
            kicker="wideneck audit",
            title=self.provenance.model,
            opening=[lede(" ".join(rows[name].summary(audit))) for name, audit in found.items()],
            sections=[list(rows[name].blocks(audit, reference)) for name, audit in found.items()],
            source=shown(self.provenance),
            headings={
                f"{name}.{path}".rstrip("."): heading
                for name, row in rows.items()
                for path, heading in row.headings.items()
            }
            | {"provenance": "Provenance"},
            symbols=[SYMBOLS, *(rows[name].symbols for name in found if rows[name].symbols)],
        )
