"""Rows of an output layer that no text trained, found from the weights alone.

Padding beyond the tokenizer, rows equal to another, and rows that sit where the first two kinds
sit.  A token that never occurs as a target is only ever pushed away from the hidden states, and
all such tokens by almost the same pushes, so their rows stay together (Land & Bartolo 2024 start
from a list of tokens known to be unused; here the list comes from the checkpoint).
Cost: hashing V D numbers and one product of V x D with the reference rows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.spectrum import ROWS
from wideneck.audits.token import TokenRef, name_tokens

NEAR = 0.1
"""A row counts as never trained within this share of the median distance.  In SmolLM2-135M the
distances to the 15 duplicated rows have their gap between 0.1 and 0.5 of the median; among
Gaussian rows of 64 columns or more none comes closer than half of it."""

MAX_REFERENCES = 256


@dataclass(frozen=True, kw_only=True)
class SpecialRows:
    """Rows that are best measured apart."""

    beyond_tokenizer: list[TokenRef] | None = measure(
        "rows that no token id of the tokenizer reaches (padding); none where no tokenizer came "
        "with the checkpoint"
    )
    duplicates: list[list[TokenRef]] = measure(
        "groups of rows equal to each other in every stored bit: the model cannot tell these "
        "tokens apart when it predicts"
    )
    never_trained: list[TokenRef] | None = measure(
        "rows within a tenth of the median distance of a row beyond the tokenizer or of a "
        "duplicated row, those rows included; none where there is no such row to compare with",
        caution="read off the geometry, not off the training data: a strong hint, not a proof",
    )
    excluded: list[int] = measure(
        "ids left out of the second set of measures: all rows beyond the tokenizer, every never-"
        "trained row, and all but the first row of a group of duplicates"
    )


@torch.no_grad()
def special_rows(weight: Tensor, tokens: Sequence[str] | None) -> SpecialRows:
    """Find them in `weight` (V, D); `tokens` holds the tokenizer's strings by id, or None."""
    vocab_size = len(weight)

    groups = duplicate_rows(weight)
    beyond = [] if tokens is None else list(range(len(tokens), vocab_size))
    references = sorted({group[0] for group in groups} | set(beyond))[:MAX_REFERENCES]
    near = _rows_near(weight, references) if references else None
    repeated = {i for group in groups for i in group[1:]}
    return SpecialRows(
        beyond_tokenizer=None if tokens is None else name_tokens(beyond, tokens),
        duplicates=[name_tokens(group, tokens) for group in groups],
        never_trained=None if near is None else name_tokens(near, tokens),
        excluded=sorted(repeated | set(beyond) | set(near or ())),
    )


def duplicate_rows(weight: Tensor) -> list[list[int]]:
    """Groups of equal rows, each sorted, in the order of their first member."""
    groups: dict[bytes, list[int]] = {}
    for start in range(0, len(weight), ROWS):
        block = weight[start : start + ROWS].contiguous().view(torch.uint8).numpy()
        for offset, row in enumerate(block):
            key = hashlib.blake2b(row, digest_size=16).digest()
            groups.setdefault(key, []).append(start + offset)
    return [group for group in groups.values() if len(group) > 1]


def _rows_near(weight: Tensor, references: list[int]) -> list[int]:
    """Rows within NEAR of the median distance to the nearest of the reference rows."""
    # float32 is enough: the test asks for a tenth of the median, not for rounding.
    points = weight[references].float()
    distances = torch.cat(
        [torch.cdist(chunk.float(), points).amin(1) for chunk in weight.split(ROWS)]
    )
    return (distances <= NEAR * distances.median()).nonzero().flatten().tolist()
