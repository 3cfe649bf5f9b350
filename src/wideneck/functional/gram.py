"""The Gram matrix of an output layer, and the nearest matrices of every rank, in float64.

W is V x D, one row per token.  The rows come in chunks, so W is never copied.
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
    Cost: 2 V D^2 operations and D^2 x 8 bytes.
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


def fisher_metric(weight: Tensor, mean: Tensor, p: Tensor) -> Tensor:
    """The Fisher matrix of the prediction p in the place of the Gram matrix, float64.

    W^T diag(p) W - (W^T p)(W^T p)^T, (D, D): the variance under p of the logits W x is x^T of it x.
    The rows are taken less `mean` first, which changes nothing but how much cancels.

    Args:
        weight: W (V, D).
        mean: (D,) float64, such as the mean row.
        p: (V,) float64, sums to 1: a prediction, such as the mean one over a text.

    Cost: 2 V D^2 operations in float64.
    """
    second = mean.new_zeros(len(mean), len(mean))
    first = torch.zeros_like(mean)
    for chunk, share in zip(row_chunks(weight), p.split(ROWS), strict=True):
        rows = chunk - mean
        weighted = share[:, None] * rows
        second.addmm_(weighted.T, rows)
        first += weighted.sum(0)
    return second - torch.outer(first, first)


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


def truncation(
    weight: Tensor,
    mean: Tensor,
    metric: Tensor,
    second_moment: Tensor | None = None,
    *,
    rank: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Factors of all ranks up to `rank`: W - 1 mu^T ~ outer[:, :r] inner[:, :r]^T.

    The matrix of rank r nearest to W - 1 mu^T in E ||(W - W_r) x||^2, M = E[x x^T], comes from the
    singular vectors of (W - 1 mu^T) M^(1/2) (Eckart & Young), and those from a D x D eigenproblem:
    no V x D factorization.  A softmax does not see 1 mu^T.

    Cost: a few V D^2 in float64; holds one V x R matrix.

    Args:
        weight: W (V, D).
        mean: mu (D,), float64: the mean row, or zeros.
        metric: (D, D) float64, the Gram matrix of the rows less mu: (W - 1 mu^T)^T (W - 1 mu^T)
            for the Frobenius norm over tokens, or with a weight between the two.
        second_moment: M (D, D) float64, positive semidefinite; None for the identity.
        rank: None for D.

    Returns:
        inner (D, R) float64, outer (V, R) of at least float32; directions of the largest
        singular values first.
    """
    root = inverse = torch.eye(len(mean), dtype=torch.float64, device=mean.device)
    if second_moment is not None:
        root = symmetric_root(second_moment)
        inverse = torch.linalg.pinv(root, hermitian=True)
    basis = torch.linalg.eigh(root @ metric @ root).eigenvectors.flip(1)[:, :rank]
    columns = root @ basis
    dtype = torch.promote_types(weight.dtype, torch.float32)
    outer = torch.empty(len(weight), basis.shape[1], dtype=dtype, device=weight.device)
    start = 0
    for rows in row_chunks(weight):
        outer[start : start + len(rows)] = (rows - mean) @ columns
        start += len(rows)
    return inverse @ basis, outer
