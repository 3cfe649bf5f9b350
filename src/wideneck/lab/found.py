"""What every reproduction says of itself, and the page that the terminal and HTML show.

The page is data: `opening`, `sections` and `reading` of the table `prose` in `lab/NAME.toml`, whose
sentences, captions and heads of columns have places for `found` and for what the paper's `table`
has `said`.  A section is a `heading` and `blocks`.  A block is one of

    text = "..."                                a paragraph
    part = "...", caption = "...", columns = [...]    a table of those rows (`wideneck.lab.tables`)
    part = "..."                                blocks that the paper makes itself, such as charts

by the names of the `parts` that the paper's `table` has.  What comes out empty is left out: a
paragraph, a column without a head, a table without a row, a section without a block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from wideneck.audits.measure import measure
from wideneck.lab.published import Published, prose, published_results
from wideneck.lab.tables import table
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

    def words(self) -> dict[str, Any]:
        """The page as data."""
        return prose(self.told_by)

    def page(self, reference: Reference) -> Page:
        """What the paper's TOML says of this, and where it comes from."""
        told = import_module(f"wideneck.lab.{self.told_by}.table")
        words, said = self.words(), {"found": self} | told.said(self)
        reading = (text.format_map(said) for text in words["reading"])
        parts = told.parts(self)
        sections = [
            [block for one in section["blocks"] for block in _blocks(reference, said, parts, **one)]
            for section in words["sections"]
        ]
        of_records = [path.split(".")[0] for path in definitions(type(self)) if "." in path]
        return Page(
            kicker=f"wideneck reproduce {self.asked}",
            title=self.published.title,
            opening=[lede(words["opening"].format_map(said))],
            sections=[
                *(
                    [Heading(*section["heading"]), *blocks]
                    for section, blocks in zip(words["sections"], sections, strict=True)
                    if blocks
                ),
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


def _blocks(
    reference: Reference,
    said: Mapping[str, Any],
    parts: Mapping[str, Sequence[Any]],
    *,
    text: str = "",
    part: str = "",
    caption: str = "",
    columns: Sequence[Any] = (),
    **more: Any,
) -> Sequence[Any]:
    """What one of `blocks` is."""
    if text:
        return [paragraph(words)] if (words := text.format_map(said)) else []
    found = parts[part]
    if not columns or not found:
        return found
    first, *others = [(column[0].format_map(said), *column[1:]) for column in columns]
    shown: Any = [first, *(column for column in others if column[0])]
    return [table(caption.format_map(said), found, shown, known=reference, **more)]


def made_now(paper: str) -> dict[str, Any]:
    """The fields of `Found` for what this command makes."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": command(), "time": time, "published": published_results(paper)}
