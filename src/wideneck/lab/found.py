"""What every reproduction says of itself, and the page that the terminal and HTML show."""

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from wideneck.audits.measure import measure
from wideneck.lab.published import Published, prose, published_results
from wideneck.report.document import Document
from wideneck.report.fields import definitions
from wideneck.report.parts import Heading, Page, Terms, Verbatim, lede, paragraph
from wideneck.report.provenance import LONG, command
from wideneck.report.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Found(Document):
    """What `wideneck reproduce PAPER` finds."""

    command: str = measure("what was run")
    time: str = measure("when, UTC")
    published: Published = measure("what the paper prints, and others of the same experiment")

    @property
    def told_by(self) -> str:
        """The folder of `wideneck.lab` whose table and sentences these are."""
        return type(self).__module__.split(".")[-2]

    @property
    def asked(self) -> str:
        """What was asked for."""
        return self.told_by

    def page(self, reference: Reference) -> Page:
        """What the paper's `table` has to show, and where it comes from."""
        paper = self.told_by
        table = import_module(f"wideneck.lab.{paper}.table")
        words, said = prose(paper), {"found": self} | table.said(self)
        reading = (text.format_map(said) for text in words["reading"])
        of_records = [path.split(".")[0] for path in definitions(type(self)) if "." in path]
        return Page(
            kicker=f"wideneck reproduce {self.asked}",
            title=self.published.title,
            opening=[lede(words["opening"].format_map(said))],
            sections=[
                *table.sections(self, reference),
                [
                    Heading("How to read it", "reading", "Reading"),
                    *(paragraph(text) for text in reading if text),
                ],
            ],
            source=[
                Heading("Provenance", "provenance", "Provenance"),
                Terms(
                    [
                        ("Paper", [f"{self.published.paper}, {self.published.url}"]),
                        ("Command", [Verbatim(self.command, code=True, most=LONG)]),
                        ("When", [self.time]),
                    ]
                ),
            ],
            headings={name: name.replace("_", " ").capitalize() for name in of_records},
        )


def made_now(paper: str) -> dict[str, Any]:
    """The fields of `Found` for what this command makes."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": command(), "time": time, "published": published_results(paper)}
