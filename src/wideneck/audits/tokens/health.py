"""What the audit says of single tokens: categories, references, indicators, suspects, repairs.

Default on a CPU: one pass of the tokenizer over its own tokens, three over the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.argmaxable.result import TokenRef
from wideneck.audits.measure import measure
from wideneck.audits.rows import SpecialRows
from wideneck.audits.tokens.categories import categorize
from wideneck.audits.tokens.category import MEANINGS, Category
from wideneck.audits.tokens.indicators import chosen, indicators
from wideneck.audits.tokens.references import Reference, references
from wideneck.audits.tokens.repaired import rows_at_mean, zero_rows
from wideneck.audits.tokens.suspicion import num_candidates, suspects
from wideneck.errors import WideneckError
from wideneck.models import HeadWeights

QUANTILES = (0.01, 0.02, 0.5, 0.98)


@dataclass(frozen=True, kw_only=True)
class CategoryCount:
    """How many tokens of one category there are."""

    category: str = measure("what a token is to its tokenizer")
    meaning: str = measure("the same in words")
    num_tokens: int = measure("how many there are", unit="tokens")


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One indicator over the clean tokens; lower is more suspicious."""

    indicator: str = measure(
        "cosine: 1 - cos(w_i, r), r the mean of the reference rows; centred cosine: 1 - cos(w_i - "
        "mu, r - mu); cosine without first component: that after the first principal component was "
        "taken off; distance: |w_i - r|; input norm: the length of the input embedding's row",
        caution="cosine alone changes under a constant added to all rows, which no softmax sees",
    )
    minimum: float = measure("the lowest")
    p01: float = measure("1st percentile")
    p02: float = measure("2nd percentile, up to which tokens are candidates")
    median: float = measure("median")
    p98: float = measure("98th percentile")


@dataclass(frozen=True, kw_only=True)
class Suspect(TokenRef):
    """A candidate: one of the lowest 2 % of the clean tokens."""

    category: str = measure("what the token is to its tokenizer; empty without one")
    value: float = measure("its indicator")


@dataclass(frozen=True, kw_only=True)
class TokenHealth:
    """What each token is to its tokenizer, and which look as if no text had trained them."""

    categories: list[CategoryCount] | None = measure(
        "tokens by category, found by decoding and encoding; none without a tokenizer to ask"
    )
    references: list[Reference] = measure("rows that no text trained, by how that is known")
    distributions: list[Distribution] = measure(
        "the indicators of Land & Bartolo (2024); none of the output rows without reference rows"
    )
    indicator: str | None = measure(
        "the one that orders the suspects: input norm of an untied model, else centred cosine; "
        "none where there is neither"
    )
    num_clean: int = measure("tokens that a text may hold", unit="tokens")
    suspects: list[Suspect] = measure(
        "the lowest 2 % of the clean tokens by that indicator, the most suspicious first",
        caution="a share that is the same for every model: candidates to be verified, no verdict",
    )
    at_mean: list[TokenRef] = measure(
        "rows within a twentieth of the median distance from the mean row, as a repair leaves "
        "them: without a bias such a token has a probability of at most 1/V and is never the most "
        "probable"
    )
    zero: list[TokenRef] = measure(
        "rows of zeros: their score is 0 (their bias), the highest wherever the others are below"
    )


def token_categories(head: HeadWeights, tokenizer: Any, notes: list[str]) -> list[Category] | None:
    """By id; None, and a note, where the tokenizer cannot be asked.

    Args:
        tokenizer: the one in memory; None for the one that belongs to the head, if there is one.
    """
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


def unused(categories: Sequence[Category] | None) -> list[int]:
    """Ids of tokens that no text holds, by name or as bytes."""
    known = (Category.PADDING, Category.NEVER_VALID_BYTE)
    return [i for i, category in enumerate(categories or ()) if category in known]


def token_health(
    head: HeadWeights, categories: list[Category] | None, rows: SpecialRows
) -> TokenHealth:
    """Measure it, given the categories and the rows that are equal or have no token."""
    weight, strings = head.weight, head.tokens or ()
    ids, kinds = references(
        categories,
        [[ref.token for ref in group] for group in rows.duplicates],
        [ref.token for ref in rows.beyond_tokenizer or ()],
    )
    embedding = None if head.input_weight is None else head.input_weight()
    found = indicators(weight, ids, head.tied, embedding)
    name = chosen(found)
    clean = suspects(torch.arange(len(weight)), categories)
    order: list[int] = []
    values: list[float] = []
    if name is not None:
        order = suspects(found[name], categories)[: num_candidates(len(clean))]
        values = found[name][order].tolist()

    def named(i: int) -> dict[str, Any]:
        return {"token": i, "string": strings[i] if i < len(strings) else None}

    def counted(category: Category) -> CategoryCount:
        count = (categories or []).count(category)
        return CategoryCount(category=str(category), meaning=MEANINGS[category], num_tokens=count)

    return TokenHealth(
        categories=None
        if categories is None
        else [c for c in map(counted, Category) if c.num_tokens],
        references=kinds,
        distributions=[_distribution(n, values[clean]) for n, values in found.items() if clean],
        indicator=name,
        num_clean=len(clean),
        suspects=[
            Suspect(
                **named(i),
                category="" if categories is None else str(categories[i]),
                value=value,
            )
            for i, value in zip(order, values, strict=True)
        ],
        at_mean=[TokenRef(**named(i)) for i in rows_at_mean(weight)],
        zero=[TokenRef(**named(i)) for i in zero_rows(weight)],
    )


def _distribution(name: str, values: Tensor) -> Distribution:
    ordered = values.sort().values

    def at(quantile: float) -> float:  # the nearest observed value
        return ordered[round(quantile * (len(ordered) - 1))].item()

    low, candidate, middle, high = map(at, QUANTILES)
    return Distribution(
        indicator=name, minimum=at(0), p01=low, p02=candidate, median=middle, p98=high
    )
