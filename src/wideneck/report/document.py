"""What a report of any kind can do: its numbers as plain data and as a file."""

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, cast

from wideneck.audits.measured import settled
from wideneck.files.writing import json_text, write_text
from wideneck.report.fields import as_dict
from wideneck.report.parts import Page
from wideneck.report.reference import Reference


class Document(ABC):
    """A dataclass of measured fields that can be written and shown.

    None holds an infinity, and each NaN in it is named in the notes of its section.
    """

    def __post_init__(self):
        for field in dataclasses.fields(cast(Any, self)):
            object.__setattr__(self, field.name, settled(getattr(self, field.name)))

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
        """Write one self-contained file, charts included, nothing fetched."""
        write_text(path, self.to_html_text())

    def to_html_text(self) -> str:
        """The HTML as a string."""
        from wideneck.report.html import render

        return render(self)

    def show(self) -> None:
        """Print the main numbers on standard output, in 80 columns."""
        from wideneck.report.console import PlainConsole
        from wideneck.report.terminal import show

        show(self, PlainConsole())

    @abstractmethod
    def page(self, reference: Reference) -> Page:
        """What the terminal and the HTML file show; `reference` has the definitions."""
