"""Every measured figure in README and docs stands with the command that gives it.

A figure is a number with decimals, or one with a unit of measurement, outside of code; a fenced
block that is no command counts whole.  Its command is one that measures, and stands in one of three
places:

- in the figure's own block: the paragraph, item, table or fenced block; there a file of tests will
  do, too;
- in the text of a section that holds it, the page's title being no section of its subsections; in
  README.md, which has long sections, in the block in front of it;
- where a link in the block leads: a page, or a section of it.

What is no measurement of ours is in `NOT_MEASURED`, with the reason.  Whether a command prints the
figure is for whoever writes it down to check; README's figures must also stand in the page that
they point to.
"""

import re
from functools import cache

import pytest

from pages import Block, blocks, command_lines, pages, slug

MEASURES = re.compile(
    r"(?:wideneck (?:audit|compare|evaluate|reproduce|train)|make (?:audit|test))\b"
    r"|python -m bench \w|python -m wideneck\.evaluation\.lm_eval"
)
TESTS = re.compile(r"tests/\S+\.py")
TOOLS = r"(?:torch|PyTorch|TRL|transformers|Python|CPython|lm-eval|wideneck|version)"
NO_FIGURE = re.compile(
    rf"95\s%|arXiv[:\s]\d+\.\d+|{TOOLS}\s\d+(?:\.\d+)+(?:\s(?:to|and|or)\s\d+(?:\.\d+)+)?"
    r"|(?:[Tt]heorem|[Ee]quation|[Ff]igure|[Tt]able|[Ss]ection)\s\d+(?:\.\d+)+"
    r"|\]\([^)]*\)|<[^>]*>|https?://\S+"
)
"""Levels of intervals, papers and their parts, versions, links and pictures."""
NUMBER = r"(?<![\w.^])(?<![A-Za-z]-)[\u2212+-]?\d[\d,]*(?:\.\d+)?"
UNIT = r"(?:%|(?:s|ms|min|minutes?|hours?|seconds?|[KMG]B|nats?|points?|times|GFLOP/s)\b)"
FIGURE = re.compile(
    rf"{NUMBER}(?:\s(?:to|and|or)\s{NUMBER})?\s?{UNIT}|{NUMBER}(?=\s±)|(?<![\w.^])(?<![A-Za-z]-)\d+\.\d+(?!\.?\w)"
)
COMMAND = re.compile(r"(?:wideneck|python|pip|make|accelerate|lm_eval)\b|\w+ = \{|\[\w+\]")
"""How a fenced block begins that is typed rather than printed: a shell's, or TOML."""
NO_MEASURE = {"report.md": "generated from the definitions of the fields"}
NOT_MEASURED = {
    "attention.md": {
        "windows in which it is above 0.3": "a threshold of a definition",
        "| setting | default |": "defaults, compared by tests/test_docs.py",
        "`softpick` are foils": "a formula, whose edges are in tests/attention/test_foils.py",
        "proved; 0.354 seen": "tests/attention/test_jacobian.py; the table is the registry's",
    },
    "compare.md": {"leaves out 0 in 80 % of repetitions": "a formula"},
    "evaluate.md": {"takes the settings of Krause et al.": "settings of a paper"},
    "heads.md": {
        "has slope 1.5": "a formula: of z + log sigmoid(z) at 0",
        "| mos, K = 15 | 54.91": "published: table 2 of Parthiban, Mao & Inkpen, AAAI 2021",
        "twelve times the rank of the softmax": "published: the same paper",
    },
    "memory.md": {"weighs up to 511 times as much": "a formula: offsets of 512 memories"},
    "reliability.md": {"JSON above 256 MB": "a limit"},
    "train.md": {"of at most 2 GB unpacked": "a limit"},
    "trainers.md": {
        "TRL 1.7 to 1.14 (SFT) and from 1.15 on": "versions",
        "of SFT up to 1.14": "versions",
    },
}
"""By page, a phrase of the block and why it needs no command."""


def figures(block: Block) -> list[str]:
    """The measured figures of a block."""
    if block.kind == "code":
        printed = block.language == "" and not COMMAND.match(block.text.strip())
        return re.findall(r"\d+\.\d+", block.text) if printed else []
    text = re.sub(r"`[^`]+`", "", block.text)
    return [found[0] for found in FIGURE.finditer(NO_FIGURE.sub("", text))]


def has_command(some: list[Block]) -> bool:
    return any(MEASURES.search(line) for block in some for line in command_lines(block))


@cache
def of_page(name: str) -> tuple[Block, ...]:
    return tuple(blocks(pages()[name].read_text()))


def linked(block: Block) -> list[Block]:
    """The blocks that the links of a block lead to."""
    found: list[Block] = []
    for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", block.text):
        name = path.removeprefix("docs/")
        if name not in pages():
            continue
        found += [
            one
            for one in of_page(name)
            if not anchor or anchor in [slug(heading) for heading in one.headings]
        ]
    return found


def without_command(page: str, all_of_it: tuple[Block, ...]) -> list[Block]:
    """The blocks of a page that hold a figure and have no command."""
    found = []
    for place, block in enumerate(all_of_it):
        if not figures(block):
            continue
        if page == "README.md":
            near = list(all_of_it[max(0, place - 1) : place + 1])
        else:
            sections = [block.headings[: k + 1] for k in range(1, len(block.headings))]
            near = [one for one in all_of_it if one.headings in (*sections, block.headings)]
        by_tests = any(TESTS.search(line) for line in command_lines(block))
        if not (by_tests or has_command(near) or has_command(linked(block))):
            found.append(block)
    return found


def excused(page: str, block: Block) -> list[str]:
    """The phrases of the exceptions that a block holds."""
    text = " ".join(block.text.split())
    return [phrase for phrase in NOT_MEASURED.get(page, ()) if phrase in text]


@pytest.mark.parametrize("page", [name for name in pages() if name not in NO_MEASURE])
def test_every_figure_has_its_command(page):
    bare = without_command(page, of_page(page))
    for block in bare:
        assert excused(page, block), (
            f"{page}, line {block.line}: {', '.join(figures(block)[:4])} stand without the command "
            "that gives them. Name it in the block or its section, or, where nothing was "
            "measured, say why in NOT_MEASURED."
        )
    used = [phrase for block in bare for phrase in excused(page, block)]
    assert sorted(used) == sorted(NOT_MEASURED.get(page, ())), "an exception excuses nothing"


def shortened(number: str) -> set[str]:
    """A number as a summary may give it: as it stands, with fewer digits, MB as GB."""
    plain = number.replace(",", "")
    value, digits = float(plain), len(plain.partition(".")[2])
    found = {f"{value:.{d}f}" for d in range(digits + 1)}
    return found | {f"{value / 1000:.1f}"}


def test_figures_of_the_readme_stand_where_it_points():
    """Of every item of README.md that links to the page of its figures."""
    checked = []
    for block in of_page("README.md"):
        target = " ".join(one.text for one in linked(block))
        if block.kind != "item" or not figures(block) or not target:
            continue
        there = {s for n in re.findall(r"\d[\d,]*(?:\.\d+)?", target) for s in shortened(n)}
        for figure in figures(block):
            numbers = re.findall(r"\d+\.\d+|\d+(?= [KMG]B)", figure)
            assert set(numbers) <= there, f"README.md, line {block.line}: {figure}"
            checked += numbers
    assert {"1.05", "1.12", "22.7"} <= set(checked)


PLANTED = """# Title

It takes 3 seconds. `wideneck audit`

## A section

| head | loss |
|---|---|
| softmax | 2.83 |

- An item of 5 %.

### With its command

`python -m bench heads softmax`: 1.04 times.

```
loss  2.8331
```

#### Below it

And 7 nats.

## Versions, levels, papers and code

Of torch 2.13.0, at 95 %, by arXiv:2508.17821 and `rate=0.1`.

```
wideneck train recipe.toml --seed 1
```

## Tests

0.36 at most (`tests/attention/test_jacobian.py`).

## A pointer

It gains 4 points ([there](memory.md#on-real-text)); 4 points ([nothing there](upstream.md#liger)).

It gains 6 points ([nothing there](upstream.md#liger)).
"""


def test_a_figure_without_a_command_is_found():
    found = without_command("planted.md", tuple(blocks(PLANTED)))
    assert [(block.kind, figures(block)) for block in found] == [
        ("table", ["2.83"]),
        ("item", ["5 %"]),
        ("text", ["6 points"]),
    ]


def test_in_the_readme_the_command_stands_beside_the_figure():
    page = (
        "# T\n\n`make audit` says:\n\n| loss |\n|---|\n| 2.83 |\n\n- 5 %.\n- 6 %: `make audit`.\n"
    )
    found = without_command("README.md", tuple(blocks(page)))
    assert [block.text for block in found] == ["- 5 %."]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.06 to 1.23 times", ["1.06 to 1.23 times"]),
        ("\N{MINUS SIGN}0.004 ± 0.012 nats", ["\N{MINUS SIGN}0.004", "0.012 nats"]),
        ("0.137 nats for 61,017 tokens", ["0.137 nats"]),
        ("65 seeds of 3 heads, d = 64, 2^16", []),
        ("1.7 GB, 2,189 MB, 17 min and 41 s", ["1.7 GB", "2,189 MB", "17 min", "41 s"]),
        ("`0.5` of torch 2.11 or later and TRL 1.7 to 1.14", []),
        ("Apache-2.0", []),
        ("94 %, not 95 %", ["94 %"]),
        ("by Theorem 1.2, as in Figure 3", []),
    ],
)
def test_what_a_figure_is(text, found):
    assert figures(blocks(text)[0]) == found
