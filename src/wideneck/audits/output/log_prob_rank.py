"""The rank of the log-probability matrix (Yang et al. 2018; Kanai et al. 2018, section 4).

A (N x V): row n is log p(. | context n).  A linear head and a softmax bound its rank by D + 1
(D + 2 with a bias); a soft cap or a mixture has no such bound.  Only the N x N Gram matrix A A^T
is formed, in float64, over chunks of the vocabulary: 2 N^2 V operations.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import Progress

CONTEXTS = 2048
"""At most this many contexts: more cost N^2, and the rank of a linear head does not grow."""

COLUMNS = 2048


@dataclass(frozen=True, kw_only=True)
class LogProbRank:
    """Numerical ranks of the matrix of log-probabilities."""

    num_contexts: int = measure("rows N: contexts taken at equal distances from the text")
    bound: int | None = measure(
        "largest rank that this kind of head can have: d + 1 for a softmax over W x, d + 2 with "
        "a bias, never more than N or V; none for a soft cap, or a head that bends or mixes scores"
    )
    press: int | None = measure(
        "singular values above press_tolerance",
        caution="a numerical rank depends on its tolerance and on N; compare only equal settings",
    )
    press_tolerance: float = measure(
        "sqrt(N + V + 1) / 2 * s_0 * 2^-23 (Press et al. 2007, with the epsilon of float32)"
    )
    effective_1e3: int | None = measure(
        "fewest squared singular values that sum to 1 - 1e-3 of all"
    )
    effective_1e4: int | None = measure("the same for 1 - 1e-4")
    effective_1e5: int | None = measure("the same for 1 - 1e-5")
    singular_values: list[float] = measure("the largest D + 8 of them")


@torch.no_grad()
def log_prob_rank(
    layer: OutputLayer, hidden: Tensor, lse: Tensor, progress: Progress | None = None
) -> LogProbRank:
    """Ranks over `hidden` (N, D) with their log-normalizers `lse` (N,).

    Raises:
        UnmeasurableError: a log-probability is not finite.
    """
    pick = torch.linspace(0, len(hidden) - 1, min(len(hidden), CONTEXTS)).round().long()
    hidden, lse = hidden[pick], lse[pick]
    num_contexts, (vocab_size, hidden_size) = len(pick), layer.weight.shape
    gram = lse.new_zeros(num_contexts, num_contexts, dtype=torch.float64)
    for start in range(0, vocab_size, COLUMNS):
        part = OutputLayer(
            layer.weight[start : start + COLUMNS],
            None if layer.bias is None else layer.bias[start : start + COLUMNS],
            layer.logit_map,
        )
        log_p = (part.logits(hidden) - lse[:, None]).double()
        gram.addmm_(log_p, log_p.T)
        if progress:
            progress("rank of log-probabilities", min(start + COLUMNS, vocab_size), vocab_size)
    if not bool(gram.isfinite().all()):
        raise UnmeasurableError("some log-probabilities are not finite")
    squared = squared_singular_values(gram)
    bound = hidden_size + (1 if layer.bias is None else 2)
    return LogProbRank(
        num_contexts=num_contexts,
        bound=min(bound, num_contexts, vocab_size) if layer.logit_map.is_linear else None,
        **numerical_ranks(squared, num_contexts, vocab_size)._asdict(),
        singular_values=squared[: hidden_size + 8].sqrt().tolist(),
    )


@torch.no_grad()
def numerical_rank(matrix: Tensor) -> int:
    """Singular values of a matrix (N, V) above `press_tolerance`, where the matrix is held.

    From the Gram matrix of the narrow side, in float64: 2 N V min(N, V) operations.
    """
    num_rows, num_columns = matrix.shape
    gram = row_gram(matrix if num_rows <= num_columns else matrix.T)
    return numerical_ranks(squared_singular_values(gram), num_rows, num_columns).press


def row_gram(matrix: Tensor) -> Tensor:
    """A A^T (N, N) of a matrix A (N, V) in float64, over chunks of its columns: 2 N^2 V."""
    gram = torch.zeros(len(matrix), len(matrix), dtype=torch.float64, device=matrix.device)
    for part in matrix.split(COLUMNS, dim=1):
        part = part.double()
        gram.addmm_(part, part.T)
    return gram


def squared_singular_values(gram: Tensor) -> Tensor:
    """Those of A, descending, from either of its Gram matrices, A A^T or A^T A."""
    return torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)


class NumericalRanks(NamedTuple):
    """What a spectrum says of a rank; defined in `LogProbRank`."""

    press: int
    press_tolerance: float
    effective_1e3: int
    effective_1e4: int
    effective_1e5: int


def numerical_ranks(squared: Tensor, num_rows: int, num_columns: int) -> NumericalRanks:
    """The ranks of a matrix (N, V) from its squared singular values, descending, in float64.

    Effective ranks are those of Parthiban et al. 2021, Table 6.
    """
    sigma = squared.sqrt()
    tolerance = press_tolerance(sigma, num_rows, num_columns)
    covered = squared.cumsum(0) / squared.sum()
    return NumericalRanks(
        press=int((sigma > tolerance).sum()),
        press_tolerance=tolerance,
        effective_1e3=_effective(covered, 1e-3),
        effective_1e4=_effective(covered, 1e-4),
        effective_1e5=_effective(covered, 1e-5),
    )


def press_tolerance(sigma: Tensor, num_rows: int, num_columns: int) -> float:
    """What counts as 0 among the descending singular values of a float32 matrix.

    sqrt(N + V + 1) / 2 * s_0 * 2^-23 (Press et al. 2007, section 2.6).
    """
    epsilon = torch.finfo(torch.float32).eps
    return math.sqrt(num_rows + num_columns + 1) / 2 * epsilon * sigma[0].item()


def _effective(covered: Tensor, epsilon: float) -> int:
    """The smallest k with covered[k - 1] >= 1 - epsilon."""
    return int((covered < 1 - epsilon).sum()) + 1
