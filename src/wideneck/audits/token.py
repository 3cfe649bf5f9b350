"""A token as reports name it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure


@dataclass(frozen=True, kw_only=True)
class TokenRef:
    """One row of the head."""

    token: int = measure("the row's number, which is the token's id")
    string: str | None = measure("the tokenizer's string; none for a row beyond the tokenizer")


def name_tokens(ids: Iterable[int], strings: Sequence[str | None] | None) -> list[TokenRef]:
    """Refs for `ids`; `strings` holds the tokenizer's strings by id, or is None."""
    known = strings or ()
    return [TokenRef(token=i, string=known[i] if i < len(known) else None) for i in ids]
