"""Self-tests: whether row i wins at a state that is made of row i itself.

For any D x D matrix T put u_i = T w_i (w centred) and x_i = T^T u_i. Then row j scores
x_i . w_j = u_i . u_j, so that one float32 matrix product tests every row. T = 1 is the plain
test; T = S^-1/2, S the second moment of the rows, the whitened one, x_i = S^-1 w_i, which decides
all but some ten rows of a language model. With a bias x_i is scaled to the edge of the box, and
the lifted state (u_i, 1) meets the lifted rows (u_j, b_j).

Without a bias the scores are symmetric: half of the M x M products serve, each for the row of
one token and the column of the other. Cost: M^2 D flops, 2 M^2 D with a bias; memory M x D in
float32 and a 256 MB tile of scores.

No verdict rests on float32: a row passes only if its margin exceeds the bound of all rounding,
gamma_n = n u / (1 - n u) times the norms (Higham 2002, ch. 3), for any order of summation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.argmaxable.head import Head, Progress

_BLOCK = 2048
_TILE = 32768


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The rows u_j = T w_j in float32."""

    transform: Tensor
    """T, (D, D) in float64."""
    lifted: Tensor
    """(M, C) in float32: C = D, or D + 1 with the centred bias as the last column."""
    radius: float
    """Largest ||u_j||_2, without the bias."""

    @property
    def rows(self) -> Tensor:
        """(M, D): without the bias."""
        return self.lifted[:, : len(self.transform)]


def make_cloud(head: Head, transform_DD: Tensor) -> Cloud:
    """All rows of the head under T."""
    width = len(transform_DD)
    lifted_MC = torch.empty(head.num_rows, width + (head.box is not None))
    radius = 0.0
    for part, rows in head.chunks():
        lifted_MC[part, :width] = rows @ transform_DD.T
        radius = max(radius, lifted_MC[part, :width].double().norm(dim=1).max().item())
    if head.box is not None:
        lifted_MC[:, width] = head.bias
    return Cloud(transform=transform_DD, lifted=lifted_MC, radius=radius)


def whitening(head: Head) -> Tensor:
    """T with T^T T = S^-1, lower triangular; a ridge of 1e-8 of the mean variance if singular."""
    moment_DD = head.second_moment
    eye = torch.eye(len(moment_DD), dtype=torch.float64)
    ridge = 1e-8 * moment_DD.diagonal().mean().item() or 1.0  # 1 where all rows are equal
    factor_DD = torch.linalg.cholesky(moment_DD + ridge * eye)
    return torch.linalg.solve_triangular(factor_DD, eye, upper=False)


def scaling(head: Head) -> Tensor:
    """T = 1 / R: the plain test, in units that float32 likes."""
    return torch.eye(len(head.mean), dtype=torch.float64) / (head.radius or 1.0)


def states(head: Head, transform_DD: Tensor, u_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Self-test states of the rows u = T w: v, and x = T^T v. v is u, or u at the box's edge."""
    v_ND = u_ND.double()
    x_ND = v_ND @ transform_DD
    if head.box is None:
        return v_ND, x_ND
    # The factor keeps the edge itself inside after rounding; a zero row stays at zero.
    edge_N1 = head.box * (1 - 1e-6) / x_ND.abs().amax(1, keepdim=True).clamp_min(1e-30)
    return v_ND * edge_N1, x_ND * edge_N1


def self_test(
    head: Head, cloud: Cloud, index_N: Tensor, stage: str, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """Which of `index_N` pass, and their relative margins, bounded from below.

    `index_N` rises. All rows without a bias take the symmetric way.
    """
    symmetric = head.box is None and len(index_N) == head.num_rows
    scores = torch.empty(min(_BLOCK, len(index_N)) * min(_TILE, head.num_rows))
    top_N = torch.full((len(index_N),), -torch.inf)
    own_N = torch.empty(len(index_N), dtype=torch.float64)
    with ieee_float32():
        for a in range(0, len(index_N), _BLOCK):
            b = min(a + _BLOCK, len(index_N))
            block = index_N[a:b]
            u_ND = cloud.rows[block]
            query_NC = states(head, cloud.transform, u_ND)[0].float()
            own_N[a:b] = (query_NC.double() * u_ND.double()).sum(1) + head.bias[block]
            if head.box is not None:
                query_NC = torch.cat([query_NC, torch.ones(len(block), 1)], dim=1)
            for c in range(a if symmetric else 0, head.num_rows, _TILE):
                rows = cloud.lifted[c : c + _TILE]
                tile = torch.mm(query_NC, rows.T, out=_view(scores, len(block), len(rows)))
                here = ((block >= c) & (block < c + len(rows))).nonzero().flatten()
                tile[here, block[here] - c] = -torch.inf
                top_N[a:b] = torch.maximum(top_N[a:b], tile.amax(1))
                if symmetric:
                    top_N[c : c + len(rows)] = torch.maximum(top_N[c : c + len(rows)], tile.amax(0))
            if progress is not None:
                done = b * (2 * len(index_N) - b) // len(index_N) if symmetric else b
                progress(stage, done, len(index_N))
    return _judge(head, cloud, index_N, own_N - top_N.double())


def _judge(head: Head, cloud: Cloud, index_N: Tensor, margin_N: Tensor) -> tuple[Tensor, Tensor]:
    passed_N = torch.empty(len(index_N), dtype=torch.bool)
    relative_N = torch.empty(len(index_N), dtype=torch.float64)
    for a in range(0, len(index_N), _BLOCK):
        part = slice(a, a + _BLOCK)
        u_ND = cloud.rows[index_N[part]]
        v_ND, x_ND = states(head, cloud.transform, u_ND)
        margin = margin_N[part] - rounding_bound(head, cloud, v_ND)
        passed_N[part] = head.accepts(margin, x_ND)
        relative_N[part] = head.relative(margin, x_ND)
    return passed_N, relative_N[passed_N]


def rounding_bound(head: Head, cloud: Cloud, v_ND: Tensor) -> Tensor:
    """How far a float32 margin at v can be from that of x = T^T v in exact arithmetic.

    float32: D + 1 products and sums, one rounding each of u_j, v and b_j, and some to spare, so
    that the state that `self_test_witness` computes anew is covered too. float64: the entries
    of T w_j, each at most gamma |T| |w_j| off.
    """
    width = len(cloud.transform)
    norm_N = v_ND.norm(dim=1)
    product_N = _gamma(width + 9, 24) * (norm_N * cloud.radius + head.bias_radius)
    map_N = _gamma(width + 9, 53) * norm_N * cloud.transform.norm() * head.radius
    return 2 * (product_N + map_N)


def _gamma(terms: int, bits: int) -> float:
    unit = 2.0**-bits
    return terms * unit / (1 - terms * unit)


def _view(buffer: Tensor, num_rows: int, num_columns: int) -> Tensor:
    return buffer[: num_rows * num_columns].view(num_rows, num_columns)


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Makes a float32 product on the CPU a float32 product.

    `torch.set_float32_matmul_precision("medium")` would let oneDNN use bfloat16 (measured: an
    error of 0.27 where 6e-5 was expected), which no bound here allows for.
    """
    matmul = torch.backends.mkldnn.matmul  # pyrefly: ignore[missing-attribute]
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before
