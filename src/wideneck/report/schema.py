"""The JSON schema as a page: `python -m wideneck.report.schema > docs/report.md`."""

import dataclasses
import typing

from wideneck.report.fields import SCHEMA, records
from wideneck.report.report import Report
from wideneck.report.series import SeriesReport

HEAD = f"""# The report, field by field

Schema {SCHEMA}. Written by `python -m wideneck.report.schema` from the definitions in the code; a
report carries the same text under `definitions`, by dotted path.

`wideneck audit --json FILE` writes a [Report](#report), `wideneck audit --series --json FILE` a
[SeriesReport](#seriesreport), each with two fields more: `schema`, a whole number that rises when a
field goes or changes its meaning, and `definitions`. A section that was not asked for is `null`.
A number that could not be measured is `null` too, and the `notes` of its section say which and why;
`provenance.notes` say so of a whole section. All logarithms are natural.
"""


def page() -> str:
    """Markdown: a table for each kind of record, in the order in which they are met."""
    kinds: list[type] = [Report, SeriesReport]
    for kind in kinds:  # grows while it is walked
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            kinds += [k for k, _ in records(hints[field.name]) if k not in kinds]
    return "\n".join([HEAD, *(_section(kind) for kind in kinds)])


def _section(kind: type) -> str:
    hints = typing.get_type_hints(kind)
    summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    rows = ["| field | type | what it is | what it does not say |", "|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        unit = f" ({field.metadata['unit']})" if field.metadata["unit"] else ""
        cells = [
            f"`{field.name}`",
            _type(hints[field.name]),
            field.metadata["definition"] + unit,
            field.metadata["caution"],
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"## {kind.__name__}\n\n{summary}\n\n" + "\n".join(rows) + "\n"


def _type(hint: typing.Any) -> str:
    """A type as JSON readers name it, with links to the records."""
    if dataclasses.is_dataclass(hint):
        name = typing.cast(type, hint).__name__
        return f"[{name}](#{name.lower()})"
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return f"list of {_inside(inner[0])}"
    if typing.get_origin(hint) is dict:
        return f"object of {_inside(inner[1])}"
    if inner:  # X | None
        named = " or ".join(_type(part) for part in inner).split(" or ")
        return " or ".join(dict.fromkeys(named))
    return {int: "integer", float: "number or null", str: "string", bool: "true or false"}.get(
        hint, "null"
    )


def _inside(hint: typing.Any) -> str:
    name = _type(hint)
    return f"({name})" if " or " in name else name


if __name__ == "__main__":
    print(page(), end="")
