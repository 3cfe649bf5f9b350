"""The nearest output matrices of every rank, in any metric of the hidden states.

W is V x D, mu (D,) is taken off every row first, M is D x D.  The matrix of rank r nearest to
W - 1 mu^T in E ||(W - W_r) x||^2, M = E[x x^T], comes from the singular vectors of
(W - 1 mu^T) M^(1/2) (Eckart & Young), and those from a D x D eigenproblem: no V x D
factorization.  A softmax does not see 1 mu^T.

Cost: a few V D^2 in float64; holds one V x R matrix.
"""

import torch
from torch import Tensor

from wideneck.functional.gram import row_chunks, symmetric_root


def truncation(
    weight: Tensor,
    mean: Tensor,
    metric: Tensor,
    second_moment: Tensor | None = None,
    *,
    rank: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Factors of all ranks up to `rank`: W - 1 mu^T ~ outer[:, :r] inner[:, :r]^T.

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
