"""Self-tests: whether row i wins at a state that is made of row i itself.

For any D x D matrix T put u_i = T w_i (w less the centre) and x_i = T^T u_i. Then row j scores
x_i . w_j = u_i . u_j, so that one float32 matrix product tests every row. T = 1 is the plain
test; T = S^-1/2, S the second moment of the rows, the whitened one, x_i = S^-1 w_i, which decides
all but some ten rows of a language model. With a bias x_i is scaled to the edge of the box, and
the lifted state (u_i, 1) meets the lifted rows (u_j, b_j).

Without a bias the scores are symmetric: half of the M x M products serve, each for the row of
one token and the column of the other. Cost: M^2 D flops, 2 M^2 D with a bias; memory M x D in
float32 and a 256 MB tile of scores.

No verdict rests on float32. The tolerance of a pair and the bound of all rounding,
gamma_n = n u / (1 - n u) times the norms (Higham 2002, ch. 3), for any order of summation, are
sums of products of a number of row i and a number of row j. One more column c with
c_i c_j above that sum (Cauchy & Schwarz) adds it to the score of every rival within the product,
so a long row costs only those whom it is compared with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.argmaxable.head import Distinct, Progress

_BLOCK = 2048
_TILE = 32768


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The rows u_j = T w_j in float32, and what else their products need."""

    transform: Tensor
    """T, (D, D) in float64."""
    lifted: Tensor
    """(M, C) in float32: u_j; c_j; with a bias, b_j and what its rounding and tolerance add."""
    edge: Tensor
    """(M,) in float64: what brings x_j to the edge of the box; ones without one."""
    norm: Tensor
    """(M,): ||x_j||_2 there."""

    @property
    def rows(self) -> Tensor:
        """(M, D): without the columns beyond."""
        return self.lifted[:, : len(self.transform)]


def make_cloud(head: Distinct, transform_DD: Tensor) -> Cloud:
    """All rows of the head under T."""
    width, num_rows = len(transform_DD), head.num_rows
    place = {"device": transform_DD.device}
    lifted_MC = torch.empty(
        num_rows, width + 1 + (head.box is not None), dtype=torch.float32, **place
    )
    length_M, stored_M, cost_M, edge_M, norm_M = torch.ones(
        5, num_rows, dtype=torch.float64, **place
    )
    for part, rows in head.chunks():
        rows = rows - head.centre
        u_ND = rows @ transform_DD.T
        x_ND = u_ND @ transform_DD
        lifted_MC[part, :width] = u_ND
        length_M[part], stored_M[part] = u_ND.norm(dim=1), rows.norm(dim=1)
        cost_M[part], norm_M[part] = x_ND.abs() @ head.columns, x_ND.norm(dim=1)
        if head.box is not None:
            edge_M[part] = _edge(head.box, x_ND)
    lifted_MC[:, width] = _allowance(head, transform_DD, length_M, stored_M, cost_M)
    if head.box is not None:
        rounding = _gamma(width + 10, 24)
        lifted_MC[:, width + 1] = (
            head.bias + rounding * head.bias.abs() + head.spacing * head.rival_bias_sizes
        )
    return Cloud(transform=transform_DD, lifted=lifted_MC, edge=edge_M, norm=norm_M * edge_M)


def whitening(head: Distinct) -> Tensor:
    """T with T^T T = S^-1, lower triangular; a ridge of 1e-8 of the mean variance if singular."""
    moment_DD = head.second_moment
    eye = torch.eye(len(moment_DD), dtype=torch.float64, device=moment_DD.device)
    ridge = 1e-8 * moment_DD.diagonal().mean().item() or 1.0  # 1 where all rows are equal
    factor_DD = torch.linalg.cholesky(moment_DD + ridge * eye)
    return torch.linalg.solve_triangular(factor_DD, eye, upper=False)


def scaling(head: Distinct) -> Tensor:
    """T = 1 over the median length: the plain test, in units that float32 likes."""
    eye = torch.eye(len(head.centre), dtype=torch.float64, device=head.centre.device)
    return eye / head.length


def states(head: Distinct, transform_DD: Tensor, index_N: Tensor) -> Tensor:
    """The hidden states (N, D) of the self-test of these rows, in float64."""
    x_ND = head.rows(index_N) @ transform_DD.T @ transform_DD
    return x_ND if head.box is None else x_ND * _edge(head.box, x_ND)[:, None]


def self_test(
    head: Distinct, cloud: Cloud, index_N: Tensor, stage: str, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """Which of `index_N` pass, and their relative margins, bounded from below.

    `index_N` rises. All rows without a bias take the symmetric way.
    """
    symmetric = head.box is None and len(index_N) == head.num_rows
    scores = cloud.lifted.new_empty(min(_BLOCK, len(index_N)) * min(_TILE, head.num_rows))
    top_N = cloud.lifted.new_full((len(index_N),), -torch.inf)
    own_N = cloud.edge.new_empty(len(index_N))
    with ieee_float32():
        for a in range(0, len(index_N), _BLOCK):
            b = min(a + _BLOCK, len(index_N))
            block = index_N[a:b]
            query_NC = queries(head, cloud, block)
            own_N[a:b] = _own(head, cloud, block, query_NC)
            for c in range(a if symmetric else 0, head.num_rows, _TILE):
                rows = cloud.lifted[c : c + _TILE]
                into = scores[: len(block) * len(rows)].view(len(block), len(rows))
                tile = torch.mm(query_NC, rows.T, out=into)
                here = ((block >= c) & (block < c + len(rows))).nonzero().flatten()
                tile[here, block[here] - c] = -torch.inf
                top_N[a:b] = torch.maximum(top_N[a:b], tile.amax(1))
                if symmetric:
                    top_N[c : c + len(rows)] = torch.maximum(top_N[c : c + len(rows)], tile.amax(0))
            if progress is not None:
                done = b * (2 * len(index_N) - b) // len(index_N) if symmetric else b
                progress(stage, done, len(index_N))
    margin_N = own_N - top_N.double()
    passed_N = margin_N > 0  # not so where a product overflowed
    return passed_N, head.relative(margin_N, cloud.norm[index_N])[passed_N]


def queries(head: Distinct, cloud: Cloud, index_N: Tensor) -> Tensor:
    """The self-test states (N, C) in the cloud, in float32, for its `lifted` rows."""
    query_NC = cloud.lifted[index_N]
    if head.box is not None:
        query_NC *= cloud.edge[index_N, None].float()
        query_NC[:, -1] = 1
    return query_NC


def _own(head: Distinct, cloud: Cloud, index_N: Tensor, query_NC: Tensor) -> Tensor:
    """Row i's score at its state, less what the tolerance and the rounding of its own take."""
    own_NC = query_NC.double() * cloud.lifted[index_N].double()
    width = len(cloud.transform)
    own_N = own_NC[:, :width].sum(1) - own_NC[:, width]
    if head.box is not None:
        bias_N = head.bias[index_N]
        own_N += 2 * bias_N - own_NC[:, -1]  # b_i less what `lifted` adds to it
    return own_N


def _allowance(
    head: Distinct, transform_DD: Tensor, length_M: Tensor, stored_M: Tensor, cost_M: Tensor
) -> Tensor:
    """c: c_i c_j bounds the tolerance of the pair without biases, and how far float32 is off.

    float32: D + 2 products and sums, one rounding each of u_j, v and c_j, and some to spare, so
    that the state that `self_test_witness` computes anew is covered too. float64: the entries
    of T w_j, each at most gamma |T| |w_j| off.
    """
    width = len(transform_DD)
    stored_M = stored_M * transform_DD.norm()
    terms = (  # factor, a number of the state, a number of the rival
        (_gamma(width + 10, 24), length_M, length_M),
        (_gamma(width + 10, 53), length_M, stored_M),
        (head.spacing, cost_M, head.rival_sizes),
    )
    square_M = torch.zeros_like(length_M)
    for factor, state_M, rival_M in terms:
        # Any balance of the two is right; the one of the typical row makes the bound tight.
        balance = _typical(state_M / rival_M)
        square_M += factor * torch.maximum(state_M.square() / balance, rival_M.square() * balance)
    return square_M.sqrt() * (1 + 1e-6)


def _typical(ratio_M: Tensor) -> float:
    ratio_M = ratio_M[ratio_M.isfinite() & (ratio_M > 0)]
    return ratio_M.median().item() if len(ratio_M) > 0 else 1.0


def _edge(box: float, x_ND: Tensor) -> Tensor:
    # The factor keeps the edge itself inside after rounding; a zero row stays at zero.
    return box * (1 - 1e-6) / x_ND.abs().amax(1).clamp_min(1e-30)


def _gamma(terms: int, bits: int) -> float:
    unit = 2.0**-bits
    return terms * unit / (1 - terms * unit)


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Makes a float32 product a float32 product, on the CPU and on CUDA.

    `torch.set_float32_matmul_precision("medium")` would let oneDNN use bfloat16 (measured: an
    error of 0.27 where 6e-5 was expected) and cuBLAS TF32, which no bound here allows for.
    """
    # pyrefly: ignore[missing-attribute]
    places = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
