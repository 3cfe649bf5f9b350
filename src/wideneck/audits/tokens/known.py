"""What is known of a head's tokens before anything is measured: categories, and rows apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wideneck.audits.rows import SpecialRows, special_rows
from wideneck.audits.tokens.categories import categorize
from wideneck.audits.tokens.category import Category
from wideneck.errors import WideneckError
from wideneck.models import HeadWeights


@dataclass(frozen=True)
class KnownTokens:
    """What the tokens are to their tokenizer, and which rows are best measured apart."""

    categories: list[Category] | None
    """By id; None where there is no tokenizer, or where it cannot be asked (see `notes`)."""
    rows: SpecialRows
    notes: list[str]


def known_tokens(head: HeadWeights, tokenizer: Any) -> KnownTokens:
    """Find them; `tokenizer` is the one in memory, None for the one that belongs to the head."""
    notes: list[str] = []
    categories = _categories(head, tokenizer, notes)
    rows = special_rows(head.weight, head.tokens, head.bias, _unused(categories))
    return KnownTokens(categories, rows, notes)


def _categories(head: HeadWeights, tokenizer: Any, notes: list[str]) -> list[Category] | None:
    if head.tokens is None or (tokenizer is None and head.tokenizer is None):
        return None
    try:
        if tokenizer is None and head.tokenizer is not None:
            tokenizer = head.tokenizer()
        return categorize(
            tokenizer, head.tokens, len(head.weight), types=head.token_types, notes=notes
        )
    except WideneckError as error:
        notes.append(f"No categories of tokens: {error}")
        return None


def _unused(categories: Sequence[Category] | None) -> list[int]:
    """Ids of tokens that no text holds, by name or as bytes."""
    known = (Category.PADDING, Category.NEVER_VALID_BYTE)
    return [i for i, category in enumerate(categories or ()) if category in known]
