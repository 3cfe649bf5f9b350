"""Rows that no text trained, found from the tokenizer and the matrix and not listed by hand.

Four kinds are certain: a text that is encoded never holds their tokens, or several of them share a
row.  Tokens that were called unreachable may have been trained with another version of the
tokenizer, so they serve only where there is nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure
from wideneck.audits.tokens.category import UNREACHABLE, Category

EQUAL = "rows equal to another"
UNTRAINED = (Category.BEYOND, Category.PADDING, Category.NEVER_VALID_BYTE)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One kind of rows that a suspicious row is held against."""

    kind: str = measure("a category, or rows equal to another")
    num_rows: int = measure("how many rows there are of it", unit="tokens")
    used: bool = measure(
        "whether they are among the rows compared with: the unreachable ones only where there is "
        "no other"
    )


def references(
    categories: Sequence[Category] | None,
    equal: Sequence[Sequence[int]],
    beyond: Sequence[int] = (),
) -> tuple[list[int], list[Reference]]:
    """The ids to compare with, sorted, and what kinds they are of.

    Args:
        categories: by id; None where there is no tokenizer to ask.
        equal: groups of ids that share a row.
        beyond: ids without a token, where no category says so.
    """
    kinds: dict[str, list[int]] = {Category.BEYOND: [*beyond]}
    for kind in (*UNTRAINED, *UNREACHABLE) if categories is not None else ():
        kinds[kind] = [i for i, category in enumerate(categories or ()) if category == kind]
    kinds[EQUAL] = sorted(i for group in equal for i in group)
    certain = _union(kinds, lambda kind: kind not in UNREACHABLE)
    used = certain or _union(kinds, lambda kind: kind in UNREACHABLE)
    rows = [
        Reference(
            kind=str(kind),
            num_rows=len(ids),
            used=bool(ids) and (kind not in UNREACHABLE or not certain),
        )
        for kind, ids in kinds.items()
        if ids
    ]
    return used, rows


def _union(kinds: Mapping[str, list[int]], wanted: Callable[[str], bool]) -> list[int]:
    return sorted({i for kind, ids in kinds.items() if wanted(kind) for i in ids})
