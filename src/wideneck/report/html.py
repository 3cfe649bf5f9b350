"""A document as one HTML file: inline style, inline SVG, no script, nothing fetched.

Strings of models and tokens come from strangers' files, so the templates escape everything that
is not marked as made here, and the whole page passes through `printable`.  Its own policy forbids a
browser to run or fetch anything.
"""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from wideneck.files.printable import printable
from wideneck.report.document import Document
from wideneck.report.numbers import counted, pretty, visible
from wideneck.report.parts import Tokens
from wideneck.report.reference import Reference
from wideneck.report.tokens import named

OPEN = 60
"""Tokens up to which a list stands open; the browser's search finds those of a closed one too."""


@cache
def environment() -> Environment:
    """Templates with escaping on, and an error for every name that is not there."""
    found = Environment(
        loader=PackageLoader("wideneck.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"pretty": pretty, "visible": visible, "listed": _listed, "counted": _counted}
    found.tests["short"] = _short
    return found


def render(document: Document) -> str:
    """The HTML of a document: no character in it that does not print but our own spaces."""
    reference = Reference(document)
    page = document.page(reference)
    html = environment().get_template("page.html.j2").render(page=page, reference=reference)
    return printable(html.lstrip(), keep="\n\u00a0")


def _short(value: Any) -> bool:
    return sum(map(len, value.groups)) <= OPEN


def _listed(tokens: Tokens) -> str:
    """One line for each group."""
    return "\n".join(" = ".join(named(*token) for token in group) for group in tokens.groups)


def _counted(tokens: Tokens) -> str:
    groups, many = len(tokens.groups), sum(map(len, tokens.groups))
    grouped = f" in {counted(groups, 'group')}" if many > groups else ""
    return f"{counted(many, 'token')}{grouped}"
