"""What may come of a case, and what may not.

A child ends with 0 or 1.  Standard error holds nothing but progress, and after a refusal one line.
Progress is what tqdm writes: frames that each begin with a carriage return and hold a percentage, a
bar and a time, of which the last is wiped out by blanks, so that nothing of it is left on the
screen.
"""

import json
import os
import re
import stat
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Case
from bench.fuzz.children import Ended

_SHOWN = (
    r"[^\r\n]*?\d+% \|[ #▏▎▍▌▋▊▉█\d]*\| (?:\d+:)?\d\d:\d\d(?:, (?:(?:\d+:)?\d\d:\d\d|\?) left)? *"
)
FRAME = re.compile(rf"\r{_SHOWN}|\n\r{_SHOWN}\x1b\[A")
"""What a bar of ours shows at a moment; a second one stands in the line below the first."""
WIPED = re.compile(r"\r *\r|\n\r *\x1b\[A")
"""How a bar that is done takes itself off the screen."""
LINE = re.compile(r"wideneck: (.+)\n")
SPACES = "\n\t\xa0\u2009\u202f"
"""What a report and a table hold beside what Python calls printable."""
LONGEST = 2000
"""Characters of a refusal: long ones name a file, and why."""
GREW = 2**30
"""Bytes that a child may take beside its parent's for a folder of less than 10 MB."""
SMALL = 10 * 2**20
ZIPPED = "text.txt.gz"
"""The text that may take what it unpacks to."""
CANARY = "canary"
"""The file that a stranger's code would write."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    case: Case
    came: str
    """REFUSED or MEASURED, or how it ended otherwise."""
    faults: tuple[str, ...]
    said: str
    """The refusal, or what else stood on standard error."""
    seconds: float
    cpu: float
    peak: int


Tree = dict[str, tuple[Any, ...]]


def tree(folder: Path) -> Tree:
    """What lies in a folder: each name with its kind and device, files with size and time."""
    found: Tree = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        kind = stat.S_IFMT(about.st_mode)
        link = os.readlink(path) if path.is_symlink() else ""
        plain = (about.st_size, about.st_mtime_ns) if kind == stat.S_IFREG else ()
        found[str(path.relative_to(folder))] = (kind, about.st_rdev, link, *plain)
    return found


def size_of(found: Tree) -> int:
    """Bytes of its files."""
    return sum(entry[3] for entry in found.values() if len(entry) > 3)


def judged(case: Case, ended: Ended, before: Tree, resident: int) -> Outcome:
    """Compare what is there with what may be.

    Args:
        case: what was run.
        ended: how it ended.
        before: what lay in its folder when it began.
        resident: bytes of the parent.
    """
    errors = ended.job.stderr.read_bytes().decode("utf-8", "surrogateescape")
    printed = ended.job.stdout.read_bytes().decode("utf-8", "surrogateescape")
    faults: list[str] = []
    came = {0: MEASURED, 1: REFUSED}.get(ended.code, f"exit {ended.code}")
    if ended.killed:
        came = "hang"
        faults.append("no end within 30 s")
    elif came not in (REFUSED, MEASURED):
        faults.append(f"ended by signal {-ended.code}" if ended.code < 0 else came)
    said = beside_progress(errors)
    if not ended.killed:
        faults += _faults_of_errors(said, came)
    faults += _faults_of_output(printed, came, case)
    faults += _faults_of_files(ended.job.folder, before, came, case)
    if case.expects not in (EITHER, came) and came in (REFUSED, MEASURED):
        faults.append(f"should be {case.expects}, was {came}")
    if ended.peak - resident > GREW and size_of(before) < SMALL and ZIPPED not in before:
        faults.append(f"took {(ended.peak - resident) / 2**30:.1f} GB")
    return Outcome(case, came, tuple(faults), said, ended.seconds, ended.cpu, ended.peak)


def beside_progress(errors: str) -> str:
    """Standard error without the frames of bars that were wiped out."""
    said, at, shown = "", 0, ""
    while at < len(errors):
        wiped, frame = WIPED.match(errors, at), FRAME.match(errors, at)
        if wiped:
            shown, at = "", wiped.end()
        elif frame:
            shown, at = frame[0], frame.end()
        else:
            said, shown, at = said + shown + errors[at], "", at + 1
    return said + shown


def _faults_of_errors(said: str, came: str) -> list[str]:
    if "Traceback (most recent call last)" in said:
        return [f"traceback: {_last(said)}"]
    if came == MEASURED:
        return [f"measured, and said {said[:200]!r}"] if said else []
    if not said:
        return ["no word on standard error"]
    found = LINE.fullmatch(said)
    if found is None:
        kind = "several lines" if said.count("\n") > 1 else "no line of ours"
        return [f"{kind}: {said[:200]!r}"]
    if not found[1].isprintable():
        return [f"unprintable: {said[:200]!r}"]
    length = len(said.rstrip("\n"))
    return [f"{length} characters"] if length > LONGEST else []


def _faults_of_output(printed: str, came: str, case: Case) -> list[str]:
    # Training has said what it did so far, and a table is shown whose file finds the disk full.
    may = "train" in case.command.argv or case.format == "target"
    if came == REFUSED and printed and not may:
        return [f"refused, and printed {printed[:80]!r}"]
    bad = _control(printed)
    return [f"printed {bad!r}"] if bad else []


def _control(text: str) -> list[str]:
    """Some characters that no report and no table may hold."""
    return sorted({c for c in text if not (c.isprintable() or c in SPACES)})[:3]


def _faults_of_files(folder: Path, before: Tree, came: str, case: Case) -> list[str]:
    after, faults = tree(folder), []
    may = case.command.makes if came == MEASURED else ()
    for name in sorted({*before, *after}):
        if before.get(name) == after.get(name):
            continue
        inside = any(
            name == place or name.startswith(f"{place}/") for place in case.command.works_in
        )
        if Path(name).name == CANARY:
            faults.append("ran a stranger's code")
        elif _temporary(name) and name in after and came in (MEASURED, REFUSED):
            faults.append(f"left {name!r}")
        elif name not in may and not inside:
            faults.append(f"{'changed' if name in before else 'left'} {name!r}")
    for name in may:
        path = folder / name
        if name not in after:
            faults.append(f"measured, but no {name}")
        elif path.is_file():
            faults += _faults_of_report(path)
    return faults


def _temporary(name: str) -> bool:
    base = Path(name).name
    return base.startswith(".") and base != ".lock"


def _faults_of_report(path: Path) -> list[str]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"{path.name} is no UTF-8: {error}"]
    if path.suffix == ".json":
        try:
            json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            return [f"{path.name} is no strict JSON: {error}"]
        return []
    bad = _control(text)
    faults = [f"{path.name} holds {bad!r}"] if bad else []
    page = _Page()
    page.feed(text)
    return faults + page.faults


class _Page(HTMLParser):
    """A report shows numbers and runs nothing."""

    def __init__(self):
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs if name.startswith("on")]
        if tag in ("script", "iframe", "object", "embed", "img", "link") or names:
            self.faults.append(f"a <{tag}> {' '.join(names)} in the report")


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}")


def _last(said: str) -> str:
    lines = [line for line in said.strip().split("\n") if line and not line.startswith(" ")]
    return lines[-1][:200] if lines else ""
