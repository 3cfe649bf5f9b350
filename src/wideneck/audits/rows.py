"""Rows of an output layer that no text trained, found from the weights alone.

Padding beyond the tokenizer, rows equal to another, and rows that sit where the first two kinds
sit.  A token that never occurs as a target is only ever pushed away from the hidden states, and
all such tokens by almost the same pushes, so their rows stay together (Land & Bartolo 2024 start
from a list of tokens known to be unused; here the list comes from the checkpoint).
Cost: hashing V D numbers and one product of V x D with the reference rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.argmaxable.distinct import group_equal_rows
from wideneck.audits.argmaxable.result import TokenRef
from wideneck.audits.measure import measure
from wideneck.audits.scale import power_of
from wideneck.functional.gram import ROWS

NEAR = 0.1
"""A row counts as undertrained within this share of the median distance.  In SmolLM2-135M the
shares rise without a gap, 23 rows below 0.1 and 42 below 0.4, so the limit is a choice, on the
careful side; among 20,000 Gaussian rows of 64 columns the nearest stood at 0.64."""

MAX_REFERENCES = 256
LARGEST = 2.0**50
"""A largest entry up to this, and from its inverse on, has squares far inside float32."""


@dataclass(frozen=True, kw_only=True)
class Undertrained(TokenRef):
    """A row that lies where rows lie that no text trained."""

    evidence: str = measure(
        "geometry: the place of the row; geometry and prompt: the model did not say the token "
        "either when it was asked to, with a probability below .01 (--verify-tokens)",
        default="geometry",
    )


@dataclass(frozen=True, kw_only=True)
class SpecialRows:
    """Rows that are best measured apart."""

    beyond_tokenizer: list[TokenRef] | None = measure(
        "rows whose id the tokenizer gives to no token (padding, mostly); none where no tokenizer "
        "came with the checkpoint"
    )
    duplicates: list[list[TokenRef]] = measure(
        "groups of rows that are equal, bias included: the model cannot tell these tokens apart "
        "when it predicts"
    )
    undertrained: list[Undertrained] | None = measure(
        "rows within a tenth of the median distance of a row beyond the tokenizer, of a duplicated "
        "row, or of the row of a token that no text holds (padding by name, a byte that is never "
        "valid), those rows included; none where there is no such row to compare with",
        caution="read off the geometry, not off the training data: a strong hint, not a proof",
    )
    excluded: list[int] = measure(
        "ids left out of the second set of measures: all rows beyond the tokenizer, every never-"
        "trained row, and all but the first row of a group of duplicates"
    )


@torch.no_grad()
def special_rows(
    weight: Tensor,
    tokens: Sequence[str | None] | None,
    bias: Tensor | None = None,
    unused: Iterable[int] = (),
) -> SpecialRows:
    """Find them in `weight` (V, D) with `bias` (V,).

    `tokens` holds the tokenizer's strings by id, None for an id without a token; or is None.
    `unused` are ids of tokens that no text holds (padding by name, bytes that are never valid).
    """
    vocab_size = len(weight)

    groups = [group for group in group_equal_rows(weight, bias) if len(group) > 1]
    beyond = []
    if tokens is not None:
        named = tokens[:vocab_size]
        beyond = [i for i, string in enumerate(named) if string is None]
        beyond += range(len(named), vocab_size)
    references = sorted({group[0] for group in groups} | set(beyond) | {*unused})[:MAX_REFERENCES]
    near = _rows_near(weight, references) if references else None
    repeated = {i for group in groups for i in group[1:]}
    return SpecialRows(
        beyond_tokenizer=None if tokens is None else _named(beyond, tokens),
        duplicates=[_named(group, tokens) for group in groups],
        undertrained=None
        if near is None
        else [Undertrained(token=ref.token, string=ref.string) for ref in _named(near, tokens)],
        excluded=sorted(repeated | set(beyond) | set(near or ())),
    )


def _rows_near(weight: Tensor, references: list[int]) -> list[int]:
    """Rows within NEAR of the median distance to the nearest of the reference rows."""
    # float32 is enough: the test asks for a tenth of the median, not for rounding.  Its squares
    # must be inside it, though.
    power, dtype = power_of(weight), torch.float32
    if not 1 / LARGEST < max(chunk.abs().max().item() for chunk in weight.split(ROWS)) < LARGEST:
        dtype = torch.float64

    def points(rows: Tensor) -> Tensor:
        return (rows if power == 1 else rows * power).to(dtype)

    near = points(weight[references])
    distances = torch.cat(
        [torch.cdist(points(chunk), near).amin(1) for chunk in weight.split(ROWS)]
    )
    return (distances <= NEAR * distances.median()).nonzero().flatten().tolist()


def _named(ids: Iterable[int], strings: Sequence[str | None] | None) -> list[TokenRef]:
    """Refs for `ids`; `strings` holds the tokenizer's strings by id, or is None."""
    known = strings or ()
    return [TokenRef(token=i, string=known[i] if i < len(known) else None) for i in ids]
