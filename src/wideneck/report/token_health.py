"""How a report shows token health: categories, reference rows, suspects, and what was set."""

from collections.abc import Iterator
from typing import Any

from wideneck.audits.tokens.health import TokenHealth
from wideneck.report.numbers import counted, number
from wideneck.report.parts import (
    Column,
    Details,
    Link,
    Piece,
    Table,
    by_item,
    line,
    note,
)
from wideneck.report.token_text import reader

BASE = "head.tokens"
SHOWN = 100
"""Suspects in the page's table; the JSON file holds all of them."""
FEW = 20
"""In the list, of which the terminal shows what two lines hold."""


def health_blocks(health: TokenHealth) -> Iterator[Any]:
    """A sentence for the terminal and the page, tables for the page."""
    yield line(*_references(health))
    yield _categories(health)
    yield note(*_references(health))
    yield by_item(
        "Indicators of untrained tokens",
        health.distributions,
        lambda found: found.indicator,
        (
            ("lowest", "minimum", number),
            ("1 %", "p01", number),
            ("2 %", "p02", number),
            ("median", "median", number),
            ("98 %", "p98", number),
        ),
        f"{BASE}.distributions[]",
        at=lambda _: f"{BASE}.distributions[].indicator",
        first="clean tokens",
    )
    if health.suspects:
        yield Details(
            [f"The {min(SHOWN, len(health.suspects))} most suspicious of the candidates"],
            [_suspects(health)],
        )


def health_lists(health: TokenHealth | None) -> list[tuple[str, str, list[Any], str]]:
    """(title, path, tokens, what the terminal says beside) of each list."""
    if health is None:
        return []
    few = health.suspects[:FEW]
    hint = f", by {health.indicator}: the first of {counted(len(health.suspects), 'candidate')}"
    return [
        ("Most suspicious", "tokens.suspects", few, hint),
        ("Rows at the mean row", "tokens.at_mean", health.at_mean, ", never the most probable"),
        ("Rows of zeros", "tokens.zero", health.zero, ", with the score 0"),
    ]


def _references(health: TokenHealth) -> Iterator[Piece]:
    yield Link("Reference rows", f"{BASE}.references")
    used = [f"{row.num_rows:,} {row.kind}" for row in health.references if row.used]
    unused = [f"{row.num_rows:,} {row.kind}" for row in health.references if not row.used]
    if not used:
        yield ", which no text trained: none were found, so output rows are held against nothing"
    else:
        yield f", which no text trained: {', '.join(used)}"
    yield f" (not used: {', '.join(unused)})." if unused else "."
    if health.indicator is not None:
        yield " The "
        yield Link(f"{len(health.suspects):,} lowest", f"{BASE}.suspects")
        yield f" of {number(health.num_clean)} clean tokens by {health.indicator} are candidates."
    if health.categories is None:
        yield " There is no tokenizer to ask for the categories of tokens."


def _categories(health: TokenHealth) -> Table | None:
    if health.categories is None:
        return None
    return Table(
        "Tokens by category",
        [
            Column("tokens", f"{BASE}.categories[].num_tokens"),
            Column("what they are", f"{BASE}.categories[].meaning", words=True, wide=True),
        ],
        [
            (c.category, f"{BASE}.categories[].category", [number(c.num_tokens), c.meaning])
            for c in health.categories
        ],
        first="category",
        captioned=False,
        face="both",
    )


def _suspects(health: TokenHealth) -> Table | None:
    from wideneck.report.tokens import named

    found = health.suspects[:SHOWN]
    read = reader(token.string for token in found)
    return by_item(
        "Candidates, the most suspicious first",
        found,
        lambda token: named(token.token, token.string and read(token.string)),
        ((health.indicator or "indicator", "value", number), ("category", "category", str)),
        f"{BASE}.suspects[]",
        first="token",
    )
