"""Singular values of an output layer, from its Gram matrix (Godey et al. 2024, section 4).

W is V x D, one row per token.  Its D x D Gram matrix (`functional.gram`) is all that is needed, so
no V x D factor is formed.  Cost: one symmetric eigenvalue problem.  A Gram matrix squares the
condition number: singular values below about sigma_0 * sqrt(D * 2^-52) are rounding, and
`rank_tolerance` says so.

The raw spectrum is not a function of the model's predictions: W and W + 1 c^T give the same
softmax.  So every spectrum comes raw and row-centred.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.scale import power_for


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """What the singular values s_0 >= s_1 >= ... of one matrix say, in plain numbers."""

    num_rows: int = measure("rows of the matrix: tokens")
    num_columns: int = measure("columns d of the matrix: hidden size")
    kl_sigma2: float = measure(
        "singular entropy of the squared singular values: KL(p || uniform) = log d - H(p), "
        "p_i = s_i^2 / sum_j s_j^2; 0 is flat, log d is rank one. Figure 5 of Godey et al. 2024 "
        "uses this form",
        unit="nats",
        caution="its ceiling is log d, so values of models of different width do not compare; "
        "the share of log d does",
    )
    kl_sigma2_share: float = measure("kl_sigma2 / log d, between 0 and 1")
    kl_sigma: float = measure(
        "singular entropy with p_i = s_i / sum_j s_j: the other reading in use, 4 to 20 times "
        "smaller on the same head",
        unit="nats",
    )
    kl_sigma_share: float = measure("kl_sigma / log d, between 0 and 1")
    effective_rank: float = measure(
        "exp(H(p)) with p_i = s_i / sum_j s_j (Roy & Vetterli 2007)",
        caution="in controlled comparisons of trained models it hardly predicts their loss "
        "(arXiv 2602.20433)",
    )
    effective_rank_sigma2: float = measure("exp(H(p)) with p_i = s_i^2 / sum_j s_j^2")
    stable_rank: float = measure("||W||_F^2 / s_0^2")
    participation_ratio: float = measure("(sum_i s_i^2)^2 / sum_i s_i^4")
    numerical_rank: int | None = measure("number of singular values above rank_tolerance")
    rank_tolerance: float = measure(
        "the larger of what rounding to the storage type adds to a singular value, "
        "rounding / sqrt(26) * (largest row norm + largest column norm), and what a float64 Gram "
        "matrix resolves, s_0 * sqrt(d * 2^-52), which alone counts where the matrix is weighted"
    )
    singular_values: list[float] = measure("s_0 >= s_1 >= ..., d of them")
    w_error: list[float] = measure(
        "W-error(r) = sqrt(sum_{i >= r} s_i^2) / ||W||_F for r = 0 ... d: the share of the "
        "matrix that its best rank-r approximation leaves out",
        caution="a Frobenius error, not a loss: plain truncation says nothing about what a head "
        "of rank r could learn",
    )

    def times(self, unit: float) -> "Spectrum":
        """That of the matrix times `unit`, which most of it does not depend on."""
        if unit == 1:
            return self
        return replace(
            self,
            rank_tolerance=self.rank_tolerance * unit,
            singular_values=[s * unit for s in self.singular_values],
        )


def storage_noise(rounding: float, largest_row: float, largest_column: float) -> float:
    """What rounding W to its storage type can add to a singular value.

    A number of binade 2^e is off by a uniform error of spacing eps 2^e: rms eps 2^e / sqrt(12),
    and over a smooth density rms(w) / rms(2^e) = sqrt(3 / (2 log 2)); 12 * 2.16 = 26.  A matrix
    of independent errors has at most about the norm of its largest row plus that of its largest
    column (Bandeira & van Handel 2016).

    Args:
        rounding: relative spacing of the storage type (`HeadWeights.rounding`).
        largest_row: max_i ||w_i||.
        largest_column: the same for columns.
    """
    return rounding / math.sqrt(26) * (largest_row + largest_column)


def spectrum(gram: Tensor, num_rows: int, noise: float = 0.0) -> Spectrum:
    """The summary of a matrix with `num_rows` rows whose Gram matrix W^T W is `gram` (D, D).

    Singular values up to `noise` do not count for the numerical rank.

    Raises:
        UnmeasurableError: the matrix has no finite Gram matrix, or only zeros.
    """
    d = len(gram)
    largest = gram.abs().max().item()
    if not math.isfinite(largest):
        raise UnmeasurableError("squares of its entries are beyond float64")
    unit = power_for(math.sqrt(largest))
    if unit != 1:
        return spectrum(gram * unit * unit, num_rows, noise * unit).times(1 / unit)
    squared = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)
    total = squared.sum().item()
    if total == 0:
        raise UnmeasurableError("all singular values are 0 in float64")
    sigma = squared.sqrt()
    p_sigma2, p_sigma = squared / total, sigma / sigma.sum()
    entropy_sigma2 = -torch.xlogy(p_sigma2, p_sigma2).sum().item()
    entropy_sigma = -torch.xlogy(p_sigma, p_sigma).sum().item()
    log_d = math.log(d)
    share = 1 / log_d if d > 1 else 0.0
    resolution = sigma[0].item() * math.sqrt(d * torch.finfo(torch.float64).eps)
    tolerance = max(noise, resolution)
    tail = torch.cat([squared.flip(0).cumsum(0).flip(0), squared.new_zeros(1)])
    return Spectrum(
        num_rows=num_rows,
        num_columns=d,
        kl_sigma2=log_d - entropy_sigma2,
        kl_sigma2_share=(log_d - entropy_sigma2) * share,
        kl_sigma=log_d - entropy_sigma,
        kl_sigma_share=(log_d - entropy_sigma) * share,
        effective_rank=math.exp(entropy_sigma),
        effective_rank_sigma2=math.exp(entropy_sigma2),
        stable_rank=total / squared[0].item(),
        participation_ratio=total**2 / squared.square().sum().item(),
        numerical_rank=int((sigma > tolerance).sum()),
        rank_tolerance=tolerance,
        singular_values=sigma.tolist(),
        w_error=(tail / total).sqrt().tolist(),
    )


def gaussian_gram(num_rows: int, d: int, seed: int) -> Tensor:
    """The Gram matrix (D, D) of an i.i.d. standard normal `num_rows` x D matrix.

    Drawn exactly and without the matrix, by Bartlett's decomposition of the Wishart
    distribution: G = A A^T, A lower triangular, A_ij ~ N(0, 1), A_ii^2 ~ chi^2(num_rows - i).
    With fewer rows than columns the decomposition does not exist and the matrix is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    if num_rows < d:
        x = torch.randn(num_rows, d, dtype=torch.float64, generator=generator)
        return x.T @ x
    a = torch.randn(d, d, dtype=torch.float64, generator=generator).tril(-1)
    freedom = torch.arange(num_rows, num_rows - d, -1, dtype=torch.float64)
    # chi^2(k) = 2 Gamma(k / 2); torch draws Gamma without leaving this generator.
    chi2 = 2 * torch._standard_gamma(freedom / 2, generator=generator)
    a.diagonal().copy_(chi2.sqrt())
    return a @ a.T
