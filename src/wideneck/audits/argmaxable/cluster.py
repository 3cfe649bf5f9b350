"""Rows that lie together and that no self-test told apart are decided together.

Rows that were never trained, mostly: thousands around one point. Each is compared at once with
the others of its cluster and with the outer rows nearest to it (`tilt`). Then

- a mixture has its certificate; its weights on other mixtures are replaced by theirs, so that no
  certificate rests on a row that has one: with A the weights on mixtures and on other rows,
  (1 - A_mixtures)^-1 A_others;
- a row that is apart has a state s that leads the cluster. With x_c, at which the cluster leads
  the outside, s + t x_c leads everything for every t between two bounds.

What is left is tried again with more of the outer rows and those that stood in the way. For heads
without a bias. Cost: some hundred products N x K x D in float32 for N rows and K points; a few
N x M x D in float64 for the states.
"""

import time

import torch
from torch import Tensor

from wideneck.audits.argmaxable.head import Distinct, Progress
from wideneck.audits.argmaxable.self_tests import Cloud
from wideneck.audits.argmaxable.tilt import tilt
from wideneck.audits.argmaxable.verdict import Enclosed, Found, Proof, check_certificates, rows_of

_NEAR = 0.3
"""Rows of a cluster lie nearer to its first one than this part of the cloud's median length."""
_SMALLEST = 32
_OUTER = (4, 8, 16, 16)
"""Outer rows, in columns of the head: at first, and for what is left then."""
_BLOCKERS = 4
"""Rows that stood most in the way of a state, each, that join."""
_SCORES = 2**23
"""Numbers in one matrix of a block."""


def decide_clusters(
    head: Distinct,
    cloud: Cloud,
    index_N: Tensor,
    barred_M: Tensor,
    end: float,
    progress: Progress | None,
) -> dict[int, Proof]:
    """What can be decided of the clusters among the rows `index_N`, until `end` on the clock.

    The certificates rest on rows that are neither barred nor have one of these themselves.  A round
    that has begun is finished.
    """
    proofs: dict[int, Proof] = {}
    for cluster_N in _clusters(cloud, index_N):
        members_N, extra_K = cluster_N, cluster_N[:0]
        for outer in _OUTER:
            if time.monotonic() > end:
                break
            beside_K = torch.cat([cluster_N[~torch.isin(cluster_N, members_N)], extra_K])
            points_K = _points(cloud, members_N, beside_K, barred_M, outer * len(head.columns))
            found, stood_K = _decide(head, cloud, members_N, points_K)
            extra_K = torch.cat([extra_K, stood_K]).unique()
            proofs.update(found)
            for i, proof in found.items():
                barred_M[i] |= isinstance(proof, Enclosed)
            members_N = members_N[[i not in found for i in members_N.tolist()]]
            if progress is not None:
                progress("cluster", len(proofs), len(index_N))
            if len(members_N) == 0:
                break
    return proofs


def _clusters(cloud: Cloud, index_N: Tensor) -> list[Tensor]:
    near = _NEAR * cloud.rows.norm(dim=1).median()
    clusters = []
    while len(index_N) >= _SMALLEST:
        apart_N = (cloud.rows[index_N] - cloud.rows[index_N[0]]).norm(dim=1)
        together_N = apart_N <= near
        together_N[0] = True
        if together_N.sum() >= _SMALLEST:
            clusters.append(index_N[together_N])
        index_N = index_N[~together_N]
    return clusters


def _points(
    cloud: Cloud, members_N: Tensor, beside_K: Tensor, barred_M: Tensor, count: int
) -> Tensor:
    """The members first; then the rows `beside_K` and the nearest others, none barred."""
    centre_D = cloud.rows[members_N].double().mean(0).float()
    square_M = cloud.rows.square().sum(1) - 2 * (cloud.rows @ centre_D)
    square_M[beside_K] = -torch.inf
    square_M[barred_M] = torch.inf
    square_M[members_N] = torch.inf
    order = torch.topk(square_M, min(count + len(beside_K), len(square_M)), largest=False)
    return torch.cat([members_N, order.indices[order.values < torch.inf]])


def _decide(
    head: Distinct, cloud: Cloud, members_N: Tensor, points_K: Tensor
) -> tuple[dict[int, Proof], Tensor]:
    """Proofs of members, the first of the points; and the rows that stood in the way of states."""
    points_KD = head.rows(points_K) @ cloud.transform.T
    points_KD -= points_KD[: len(members_N)].mean(0)
    block = max(1, _SCORES // len(points_K))
    tilted = [
        tilt(points_KD, own)
        for own in torch.arange(len(members_N), device=members_N.device).split(block)
    ]
    mixed_N, weight_NK, apart, states = (torch.cat(parts) for parts in zip(*tilted, strict=True))
    proofs: dict[int, Proof] = _enclosed(head, points_K, mixed_N, weight_NK)
    apart_N = members_N[apart]
    direct_ND = states @ cloud.transform
    centre_D = head.rows(members_N).mean(0)
    towards_D = centre_D @ cloud.transform.T @ cloud.transform
    blockers = [members_N[:0]]
    if len(apart_N) == 0:
        return proofs, blockers[0]
    score_M = -head.leads(members_N[:1], towards_D[None])[0]  # less that of the first member
    score_M[members_N[0]] = 0
    apart_n = torch.arange(len(apart_N), device=apart_N.device)
    for part in apart_n.split(max(1, _SCORES // head.num_rows)):
        found, stood = _lead(head, apart_N[part], direct_ND[part], towards_D, score_M)
        proofs.update(found)
        blockers.append(stood)
    return proofs, torch.cat(blockers).unique()


def _enclosed(head: Distinct, points_K: Tensor, mixed_N: Tensor, weight_NK: Tensor) -> dict:
    if len(mixed_N) == 0:
        return {}
    place = {"dtype": torch.float64, "device": weight_NK.device}
    other_K = torch.ones_like(points_K, dtype=torch.bool)
    other_K[mixed_N] = False
    among_NN = torch.eye(len(mixed_N), **place) - weight_NK[:, mixed_N]
    weight_NK, info = torch.linalg.solve_ex(among_NN, weight_NK[:, other_K])
    if info.any():  # they are mixtures of each other alone, which is none
        return {}
    rows = rows_of(head, points_K[mixed_N])
    found = check_certificates(head, rows, points_K[other_K], weight_NK)
    return {
        i: proof
        for i, proof in zip(points_K[mixed_N].tolist(), found, strict=True)
        if proof is not None
    }


def _lead(
    head: Distinct, index_N: Tensor, direct_ND: Tensor, towards_D: Tensor, score_M: Tensor
) -> tuple[dict[int, Proof], Tensor]:
    """Witnesses direct + t towards; and the rows that stood in the way of the others.

    `score_M` holds what every row scores at `towards`, up to a constant.
    """
    towards_ND = towards_D.expand_as(direct_ND)
    near_NM = head.leads(index_N, direct_ND) - head.tolerances(index_N, direct_ND)
    far_NM = score_M[index_N, None] - score_M - head.tolerances(index_N, towards_ND)
    own = torch.arange(len(index_N), device=index_N.device)
    near_NM[own, index_N] = far_NM[own, index_N] = torch.inf
    bound_NM = -near_NM / far_NM
    bound_NM[own, index_N] = torch.nan
    low_N = bound_NM.masked_fill(~(far_NM > 0), 0).nan_to_num(0).amax(1).clamp_min(0)
    high_N = bound_NM.masked_fill(~(far_NM < 0), torch.inf).nan_to_num(torch.inf).amin(1)
    t_N = torch.where(high_N.isfinite(), (low_N + high_N) / 2, 2 * low_N)
    x_ND = direct_ND + t_N[:, None] * towards_D

    lead_NM = head.leads(index_N, x_ND)
    over_NM = lead_NM - head.tolerances(index_N, x_ND)
    won_N = (over_NM > 0).all(1)
    margin_N = head.relative(lead_NM.amin(1), x_ND.norm(dim=1))
    worst = torch.topk(over_NM[~won_N], min(_BLOCKERS, head.num_rows), largest=False)
    number_N = index_N.tolist()
    proofs: dict[int, Proof] = {
        number_N[n]: Found(x=x_ND[n], margin=margin_N[n].item())
        for n in won_N.nonzero().flatten().tolist()
    }
    return proofs, worst.indices.flatten()
