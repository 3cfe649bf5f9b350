"""What papers print, as data: one TOML file per paper, read into rows.

Every number is as printed; `status` says how it was checked.  A file has

    title = "..."; paper = "..."; url = "..."
    [[grid]]       a table: fields that its numbers share, `measures = [...]`, and rows by what they
                   are of, `data."PTB" = [...]`, each a name and for each measure a number,
                   [number, spread] or "" for none
    [[claims]]     statements: fields that they share, and `rows`, each [name, table, statement]

and the tables `OURS` of what we run and say, which are not the paper's.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any, Literal, TypeVar, get_args

from wideneck.files.records import record

OURS = ("prose", "scale", "curves")
"""Our sentences, settings by the name of the scale, and tables of curves."""
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
SMALL = Decimal("0.001")
"""Below it a number is written with a power of ten."""
Scale = TypeVar("Scale")
Status = Literal["verified", "secondary", "figure", "recalled"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""verified: read in the source itself.  secondary: another text reports it.  figure: read off a
figure.  recalled: from memory; shown as "recalled, not checked" and never compared."""


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """One number."""

    table: str
    """Where in the source."""
    data: str
    row: str
    measure: str
    value: float
    spread: float | None = None
    """Standard deviation over seeds, where printed."""
    seeds: int | None = None
    """Runs behind the number, where known."""
    status: Status
    source: str = ""
    """Where it was read, when not in the paper itself."""
    printed: str
    """Value and spread with the digits that they are printed with."""

    @property
    def recalled(self) -> bool:
        """Whether it must not be compared."""
        return self.status == "recalled"


@dataclass(frozen=True, kw_only=True)
class PublishedClaim:
    """One statement that is not a number."""

    name: str
    """What a reproduction calls it."""
    table: str
    """Where in the source."""
    says: str
    """The statement, in our words."""
    status: Status
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What one paper prints, with what others print of the same experiment."""

    title: str
    paper: str
    url: str
    results: list[PublishedResult]
    claims: list[PublishedClaim]

    def find(self, **wanted: str) -> list[PublishedResult]:
        """The results whose fields are as given, such as `find(data="PTB", measure="rank")`."""
        return [r for r in self.results if all(getattr(r, k) == v for k, v in wanted.items())]

    def one(self, **wanted: str) -> PublishedResult:
        """The only such result.

        Raises:
            ValueError: none, or several.
        """
        (found,) = self.find(**wanted)
        return found

    def claim(self, name: str) -> PublishedClaim:
        """The statement of a name."""
        (found,) = (claim for claim in self.claims if claim.name == name)
        return found


def published_results(name: str) -> Published:
    """The numbers and statements of one paper, such as "sigsoftmax".

    Raises:
        ValueError: the file, which is ours, is not as it should be.
    """
    file = f"{name}.toml"
    return read_published(_text(file), file)


def prose(name: str) -> dict[str, Any]:
    """What our page of a paper says in words: sentences by name, with places for what was found."""
    return ours(name, "prose")


def ours(name: str, table: str) -> dict[str, Any]:
    """What we run and say of a paper: one of the tables `OURS` of its file."""
    return tomllib.loads(_text(f"{name}.toml"))[table]


def scales(name: str, kind: type[Scale]) -> dict[str, Scale]:
    """What our reproduction of a paper does at each scale, in the fields of a dataclass.

    Raises:
        WideneckError: the file, which is ours, is not as it should be.
    """
    return {
        scale: record(kind, fields, f"{name}.toml", "mend the file", exact=True)
        for scale, fields in ours(name, "scale").items()
    }


def _text(file: str) -> str:
    return resources.files("wideneck.lab").joinpath(file).read_text("utf-8")


def read_published(text: str, file: str) -> Published:
    """Read a file; `file` names it in messages.

    Raises:
        ValueError: an unknown or a missing field, an unknown status, a number that stands twice, a
            second-hand number without its source.
    """
    content = tomllib.loads(text, parse_float=Decimal)
    content = {name: table for name, table in content.items() if name not in OURS}
    results = [
        _checked(PublishedResult, _result(one), file)
        for grid in content.pop("grid", [])
        for one in _numbers(grid, file)
    ]
    claims = [
        _checked(
            PublishedClaim, some | dict(zip(("name", "table", "says"), row, strict=True)), file
        )
        for some in content.pop("claims", [])
        for row in some.pop("rows")
    ]
    places: list[Any] = [(r.table, r.data, r.row, r.measure, r.source) for r in results]
    places += [claim.name for claim in claims]
    for place in places:
        if places.count(place) > 1:
            raise ValueError(f"{file}: {place} stands there twice.")
    return _checked(Published, content | {"results": results, "claims": claims}, file)


def _numbers(grid: dict[str, Any], file: str) -> Iterator[dict[str, Any]]:
    """The numbers of a table, each with what they share."""
    measures, tables = grid.pop("measures"), grid.pop("data")
    for data, (name, *cells) in ((data, row) for data, rows in tables.items() for row in rows):
        if len(cells) != len(measures):
            raise ValueError(f"{file}: row {name} has {len(cells)} of {len(measures)} numbers.")
        for measure, cell in zip(measures, cells, strict=True):
            if cell == "":
                continue
            both = cell if isinstance(cell, list) else [cell]
            number = dict(zip(("value", "spread"), both, strict=False))
            yield grid | {"data": data, "row": name, "measure": measure} | number


def _result(given: dict[str, Any]) -> dict[str, Any]:
    """Floats, and how they were printed."""
    numbers = {k: Decimal(given[k]) for k in ("value", "spread") if k in given}
    printed = f" {PLUS_MINUS} ".join(map(_printed, numbers.values()))
    return given | {k: float(number) for k, number in numbers.items()} | {"printed": printed}


def _printed(number: Decimal) -> str:
    return f"{number:f}" if number == 0 or abs(number) >= SMALL else f"{number:e}"


Checked = TypeVar("Checked", PublishedResult, PublishedClaim, Published)


def _checked(kind: type[Checked], given: dict[str, Any], file: str) -> Checked:
    found = record(kind, given, file, "mend the file", exact=True)
    if not isinstance(found, Published) and found.status == "secondary" and not found.source:
        raise ValueError(f"{file}: no source of what is second-hand in {given}.")
    return found
