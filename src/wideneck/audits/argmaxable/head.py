"""The distinct rows of a head in float64, how large they are, and the exact judge of a witness.

M distinct rows w_i in R^D and biases b_i (zeros without a bias). A margin is judged at the scale
of the two rows that it tells apart, never at that of the largest row of the head:

    tau_ij(x) = unit * ((r_i + r_j) * s.|x| + |b_i| + |b_j|),   |w_ik| <= r_i s_k

bounds what one spacing of float32 in every number of two rows does to their margin. Whoever
stretches a column, or all rows, changes no verdict; a row that is stretched alone takes only its
own tolerance along. A witness needs a margin above tau_ij over every other row, and
`verdict.check_certificate` accepts weights only if they prove that there is none.

Everything is computed by chunks of rows from the weight as it is stored, so a large head needs no
second copy; one under 512 MB in float64 is kept.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""
_CHUNK = 8192
_KEEP = 512 * 2**20
LONG = 8.0
"""Rows longer than this many times the median count as that long in the centre and the moment."""
SPACING, SPACING_OF_FLOAT64 = 2.0**-23, 2.0**-36
"""Relative spacing of float32, for every type up to it; and for float64 what sums of some
thousand products in float64 can tell for certain."""


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """M rows and biases to be told apart."""

    weight: Tensor
    """(V, D) as stored."""
    tokens: Tensor
    """(M,): row of `weight` that stands for each group of rows that tie."""
    centre: Tensor
    """(D,): mean of the V rows, float64, long ones shortened."""
    bias: Tensor
    """(M,): less the median of all V, float64; zeros without a bias."""
    bias_sizes: Tensor
    """(M,): |b_i| as stored."""
    box: float | None
    """Bound of |x_k|; None without a bias."""
    length: float
    """Median of the lengths of the rows less the centre."""
    bias_length: float
    """Median of |b_i| less the median bias; 0 without a bias."""
    second_moment: Tensor
    """(D, D): mean of w_i w_i^T over the V rows less the centre, long ones shortened, float64."""
    unit: float
    """Relative spacing of one number."""
    columns: Tensor
    """(D,): s, how large the numbers of a column are, each row over its largest number."""
    sizes: Tensor
    """(M,): r_i = max_k |w_ik| / s_k."""
    rival_sizes: Tensor
    """(M,): r_j as a rival; more where row j stands for others that are not quite equal to it."""
    rival_bias_sizes: Tensor
    """(M,): |b_j| likewise."""
    every_bias: Tensor | None
    """(V,) as stored."""
    kept: Tensor | None
    """(M, D): the rows in float64 as stored, where they are small enough to keep."""

    @property
    def num_rows(self) -> int:
        """M."""
        return len(self.tokens)

    @property
    def spacing(self) -> float:
        """`unit`, and what sums of D products in float64 add to it."""
        return self.unit + (len(self.columns) + 9) * 2.0**-53

    def stored(self, index: Tensor | slice) -> Tensor:
        """Rows in float64 as stored."""
        if self.kept is not None:
            return self.kept[index]
        return self.weight[self.tokens[index]].double()

    def rows(self, index: Tensor | slice) -> Tensor:
        """Rows in float64 less the centre, which changes no difference between two of them."""
        return self.stored(index) - self.centre

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """All rows as stored, a chunk at a time, with their place."""
        for a in range(0, self.num_rows, _CHUNK):
            part = slice(a, min(a + _CHUNK, self.num_rows))
            yield part, self.stored(part)

    def only(self, index: Tensor, larger: Tensor) -> "Distinct":
        """The same head with these rows left to be told apart, each so much larger as a rival."""
        return dataclasses.replace(
            self,
            tokens=self.tokens[index],
            bias=self.bias[index],
            bias_sizes=self.bias_sizes[index],
            sizes=self.sizes[index],
            rival_sizes=self.sizes[index] * larger,
            rival_bias_sizes=self.bias_sizes[index] * larger,
            kept=None if self.kept is None else self.kept[index],
        )

    def leads(self, index_N: Tensor, x_ND: Tensor) -> Tensor:
        """How far row index_N[n] leads at x_ND[n]: its score less every other; inf for itself.

        (N, M) in float64. Rows as stored, so that the rounding of a margin is that of its two rows.
        """
        own_N = (self.stored(index_N) * x_ND).sum(1) + self.bias[index_N]
        lead_NM = x_ND.new_empty(len(index_N), self.num_rows)
        for part, rows in self.chunks():
            lead_NM[:, part] = own_N[:, None] - (x_ND @ rows.T + self.bias[part])
        lead_NM[torch.arange(len(index_N), device=x_ND.device), index_N] = torch.inf
        return lead_NM

    def tolerances(self, index_N: Tensor, x_ND: Tensor) -> Tensor:
        """tau_ij(x) of row i = index_N[n] and every rival j, (N, M); with float64's rounding."""
        cost_N1 = (x_ND.abs() @ self.columns)[:, None]
        row_NM = (self.sizes[index_N, None] + self.rival_sizes) * cost_N1
        return self.spacing * (row_NM + self.bias_sizes[index_N, None] + self.rival_bias_sizes)

    def inside(self, x_ND: Tensor) -> Tensor:
        """Which states lie in the box."""
        if self.box is None:
            return torch.ones(len(x_ND), dtype=torch.bool, device=x_ND.device)
        return x_ND.abs().amax(1) <= self.box

    def relative(self, margin_N: Tensor, norm_N: Tensor) -> Tensor:
        """Margin over ||x||_2 times the median length of a row, and that of a bias."""
        return margin_N / (norm_N * self.length + self.bias_length).clamp_min(1e-300)

    def into_box(self, x_ND: Tensor) -> Tensor:
        """Shrinks the states that stick out of the box."""
        if self.box is None:
            return x_ND
        reach_N1 = x_ND.abs().amax(1, keepdim=True).clamp_min(1e-300)
        # The factor keeps the edge itself inside after rounding.
        return x_ND * (self.box * (1 - 1e-6) / reach_N1).clamp_max(1)


def make_head(weight: Tensor, bias: Tensor | None, tokens_M: Tensor, box: float) -> Distinct:
    """The rows `tokens_M` of a weight (V, D); centre, moment and columns are of all V rows."""
    num_rows, width = weight.shape
    norm_V, columns_D = _norms_and_columns(weight)
    longest = LONG * _median(norm_V)

    size_V = torch.empty_like(norm_V)
    share_V = (longest / norm_V.clamp_min(1e-300)).clamp_max(1.0)
    centre_D = torch.zeros_like(columns_D)
    for part, rows in _parts(weight):
        size_V[part] = torch.linalg.vector_norm(rows / columns_D, torch.inf, dim=1)
        centre_D += share_V[part] @ rows
    centre_D /= share_V.sum()

    moment_DD = centre_D.new_zeros(width, width)
    for part, rows in _parts(weight):
        rows -= centre_D
        norm_V[part] = rows.norm(dim=1)
        if bool((norm_V[part] > longest).any()):
            rows *= (longest / norm_V[part, None].clamp_min(1e-300)).clamp_max(1.0)
        moment_DD.addmm_(rows.T, rows, alpha=1 / num_rows)

    bias_M = bias_sizes_M = centre_D.new_zeros(len(tokens_M))
    if bias is not None:
        bias_M = bias[tokens_M].double() - bias.double().median()
        bias_sizes_M = bias[tokens_M].double().abs()
    keep = 8 * len(tokens_M) * width <= _KEEP
    return Distinct(
        weight=weight,
        tokens=tokens_M,
        centre=centre_D,
        bias=bias_M,
        bias_sizes=bias_sizes_M,
        box=None if bias is None else box,
        length=_median(norm_V),
        bias_length=bias_M.abs().median().item(),
        second_moment=moment_DD,
        unit=SPACING_OF_FLOAT64 if weight.dtype == torch.float64 else SPACING,
        columns=columns_D,
        sizes=size_V[tokens_M],
        rival_sizes=size_V[tokens_M],
        rival_bias_sizes=bias_sizes_M,
        every_bias=bias,
        kept=weight[tokens_M].double() if keep else None,
    )


def _norms_and_columns(weight: Tensor) -> tuple[Tensor, Tensor]:
    place = {"dtype": torch.float64, "device": weight.device}
    norm_V = torch.empty(len(weight), **place)
    square_D = torch.zeros(weight.shape[1], **place)
    for part, rows in _parts(weight):
        top_N1 = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)
        squares = rows.div_(top_N1.where(top_N1 > 0, 1)).square_()
        norm_V[part] = squares.sum(1).sqrt() * top_N1[:, 0]
        square_D += squares.sum(0)
    columns_D = (square_D / len(weight)).sqrt()
    return norm_V, columns_D.where(columns_D > 0, 1.0)


def _parts(weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for a in range(0, len(weight), _CHUNK):
        part = slice(a, min(a + _CHUNK, len(weight)))
        yield part, weight[part].to(torch.float64, copy=True)


def _median(values: Tensor) -> float:
    """The median of those above zero; 1 if there are none, so that it can be divided by."""
    values = values[values > 0]
    return values.median().item() if len(values) > 0 else 1.0
