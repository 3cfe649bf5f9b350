"""From what the tests of a row reported (junit XML) to the table of docs/clients.md."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from clients.rows import Row

BEGIN = "<!-- The table below is written by make test-clients WRITE=1. -->"
END = "<!-- End of the table. -->"
FAILED = "**FAILED**"


@dataclass(frozen=True)
class Seen:
    """One line of the table, for one version."""

    client: str
    version: str
    what: str
    result: str


def seen(row: Row, report: Path, passed: bool) -> list[Seen]:
    """What the tests of a row showed, each once; a test that failed shows that, whatever it said.

    `passed`: whether pytest says that all went well, as it does not where it found no test.
    """
    own = Seen(row.name, row.version, row.what or "its tests", "right")
    cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
    lines = [line for case in cases for line in _of_case(case, own, bool(row.what))]
    if not passed and all(line.result != FAILED for line in lines):
        lines.append(replace(own, result=FAILED))
    elif passed and row.what:
        lines.append(own)
    return list(dict.fromkeys(lines))


def _of_case(case: ElementTree.Element, own: Seen, one_line: bool) -> Iterator[Seen]:
    failed = case.find("failure") is not None or case.find("error") is not None
    skipped = case.find("skipped")
    told = [p.get("value", "") for p in case.iter("property") if p.get("name") == "shows"]
    for line in map(json.loads, told):
        result = f"right through `{line['call']}`" if line["call"] else line["result"]
        yield Seen(
            line["client"] or own.client,
            line["version"] or own.version,
            line["what"],
            FAILED if failed else result,
        )
    what = own.what if one_line else f"`{case.get('name')}`"
    if failed and not told:
        yield replace(own, what=what, result=FAILED)
    if skipped is not None and not one_line:
        yield replace(own, what=what, result=f"not run: {skipped.get('message')}")


def markdown(lines: Iterable[Seen]) -> str:
    """Lines that differ in the version alone become one, in the order in which they came."""
    versions: dict[Seen, list[str]] = {}
    for line in lines:
        tried = versions.setdefault(replace(line, version=""), [])
        if line.version not in tried:
            tried.append(line.version)
    cells = [(s.client, ", ".join(tried), s.what, s.result) for s, tried in versions.items()]
    header = ("client", "versions tried", "what", "result")
    body = ["| " + " | ".join(row) + " |" for row in (header, *cells)]
    return "\n".join([body[0], "|---|---|---|---|", *body[1:]])


def written(page: str, table: str) -> str:
    """The page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
