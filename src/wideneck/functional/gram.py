"""The Gram matrix of an output layer, and the root of a second moment, in float64.

W is V x D: a row a token.  The rows come in chunks, so W is never copied.
Cost: 2 V D^2 operations and D^2 x 8 bytes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from wideneck.functional.items import per_item

ROWS = 4096
"""Rows a chunk: large enough for the product's peak speed, 34 MB at D = 1024 in float64."""


def gram(weight: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean row (D,) and the Gram matrix of the centred rows (D, D), both float64.

    Centring comes before the product: taking V mu mu^T off the raw Gram matrix would cancel
    where the mean dominates, and adding it back never does. `rows` selects rows by index.
    """
    place = {"dtype": torch.float64, "device": weight.device}
    total = torch.zeros(weight.shape[1], **place)
    count = 0
    for chunk in row_chunks(weight, rows):
        total += chunk.sum(0)
        count += len(chunk)
    mean = per_item(total, count)
    centred = torch.zeros(weight.shape[1], weight.shape[1], **place)
    for chunk in row_chunks(weight, rows):
        centred.addmm_((chunk - mean).T, chunk - mean)
    return mean, centred


def row_chunks(weight: Tensor, rows: Tensor | None = None) -> Iterator[Tensor]:
    """The rows (or the selected ones) in float64, `ROWS` at a time."""
    if rows is None:
        for chunk in weight.split(ROWS):
            yield chunk.double()
    else:
        for index in rows.split(ROWS):
            yield weight[index].double()


def symmetric_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semidefinite matrix (D, D)."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
