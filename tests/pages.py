"""The documents as blocks: what stands under which heading, and which of it is code."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^( *)(```+)(.*)$")
HEADING = re.compile(r"^(#+) (.*)$")
ITEM = re.compile(r"^(?:[-*]|\d+\.) ")


@dataclass(frozen=True)
class Block:
    """A paragraph, an item of a list, a table or a fenced block, without its marks."""

    kind: str
    """"text", "item", "table" or "code"."""
    text: str
    line: int
    headings: tuple[str, ...]
    """Headings of the sections that hold it, the page's title first."""
    language: str = ""
    """Language of a fenced block."""


def pages() -> dict[str, Path]:
    """README.md and every page of docs, by its name."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {path.name: path for path in found}


def blocks(page: str) -> list[Block]:
    """The blocks of a page in their order."""
    found: list[Block] = []
    headings: list[tuple[int, str]] = []
    kind, lines, start, fence, language = "", [], 0, "", ""

    def close() -> None:
        nonlocal kind, lines, language
        if lines:
            names = tuple(name for _, name in headings)
            found.append(Block(kind, "\n".join(lines), start, names, language))
        kind, lines, language = "", [], ""

    for number, line in enumerate(page.splitlines(), 1):
        mark = FENCE.match(line)
        if fence:
            if mark and mark[2] == fence and not mark[3]:
                fence = ""
                close()
            else:
                lines.append(line)
        elif mark:
            close()
            kind, fence, start, language = "code", mark[2], number, mark[3].strip()
        elif heading := HEADING.match(line):
            close()
            level = len(heading[1])
            headings = [*(h for h in headings if h[0] < level), (level, heading[2])]
        elif not line.strip():
            close()
        else:
            begins = "table" if line.startswith("|") else "item" if ITEM.match(line) else ""
            if begins == "item" or (begins and begins != kind):
                close()
            if not lines:
                kind, start = begins or "text", number
            lines.append(line)
    close()
    return found


def spans(block: Block) -> list[str]:
    """The code spans of a block of text, each on one line."""
    if block.kind == "code":
        return []
    return [" ".join(found.split()) for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", block.text)]


def command_lines(block: Block) -> list[str]:
    """What a reader could run: the lines of a fenced block, or the code spans of another.

    A backslash joins lines, and two spaces or more begin a remark.
    """
    if block.kind != "code":
        return spans(block)
    joined = re.sub(r"\\\n\s*", "", block.text)
    return [re.split(r"\s{2,}|\s# ", line.strip())[0] for line in joined.splitlines()]


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
