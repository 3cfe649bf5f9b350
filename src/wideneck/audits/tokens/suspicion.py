"""Which tokens to doubt first, from the weights: the indicators of Land & Bartolo (2024).

Untied: the length of the input row, which grows only where the token is read.  Tied: the cosine
distance to the mean of rows that no text trained, all with the mean row taken off; where the
checkpoint shows no such row, the length of the row with the mean taken off, which is ours.
Adding one vector to all output rows changes no order but that of input rows.

Cost: V D numbers, read twice.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from wideneck.functional.gram import row_chunks


def suspects(
    weight: Tensor,
    references: Sequence[int],
    *,
    input_weight: Tensor | None = None,
    excluded: Collection[int] = (),
) -> tuple[list[int], str]:
    """Ids from the most suspicious on, and in words by what.

    Args:
        weight: (V, D), the output layer.
        references: ids of rows that no text trained.
        input_weight: (V', E), the input embedding of a model that is not tied; None of one that is.
        excluded: ids that are not listed.
    """
    if input_weight is not None:
        values, by = _lengths(input_weight, None), "the length of the row in the input embedding"
    else:
        mean = torch.stack([chunk.mean(0) * len(chunk) for chunk in row_chunks(weight)]).sum(0)
        mean /= len(weight)
        if references:
            towards = (weight[list(references)].double() - mean).mean(0)
            values = torch.cat(
                [_cosine_distance(chunk - mean, towards) for chunk in row_chunks(weight)]
            )
            by = (
                f"the cosine distance to the mean of {len(references)} rows that no text trained, "
                "the mean row taken off"
            )
        else:
            values = _lengths(weight, mean)
            by = (
                "the length of the row with the mean row taken off, as no row of this head is "
                "known to be untrained"
            )
    order = values[: len(weight)].sort(stable=True).indices.tolist()
    left_out = set(excluded)
    return [token for token in order if token not in left_out], by


def _lengths(weight: Tensor, mean: Tensor | None) -> Tensor:
    off = 0.0 if mean is None else mean
    return torch.cat([(chunk - off).norm(dim=1) for chunk in row_chunks(weight)])


def _cosine_distance(rows: Tensor, towards: Tensor) -> Tensor:
    """1 - cos; 1 for a row of zeros, which has no direction."""
    lengths = rows.norm(dim=1) * towards.norm()
    return 1 - rows @ towards / torch.where(lengths > 0, lengths, torch.inf)
