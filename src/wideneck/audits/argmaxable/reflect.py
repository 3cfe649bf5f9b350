"""Reflections (Grivas, Bogoychev & Lopez, ACL 2022): walk until the token wins.

While some j != i scores highest at x, reflect x across the hyperplane where i and j tie, the one
normal to w_i - w_j (shifted by the biases). Here N tokens walk at once, in the coordinates
u = T w of the whitened cloud, where the rows are round and the walk is short. With a bias, a step
out of the box is followed by a shrink into it.

Cost: N M D multiply-adds in float32 a step. A walk that ends proves nothing yet: its state is
judged in float64 over all rows. One that does not end says nothing at all.
"""

import torch
from torch import Tensor

from wideneck.audits.argmaxable.head import Distinct, Progress
from wideneck.audits.argmaxable.self_tests import Cloud, ieee_float32, queries

PATIENCE = 100
"""Steps at most, as in the paper."""
_IDLE = 10
"""Stop after this many steps in a row that brought home under 1% of the walkers: what is left is
mostly unargmaxable, and the next stage proves it for less."""
_SCORES = 2**26
"""Scores held at once: 256 MB."""


def reflect(
    head: Distinct, cloud: Cloud, index_N: Tensor, progress: Progress | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of `index_N` that won, their margins in float64, and their states x (., D)."""
    walkers_N = index_N
    v_ND = queries(head, cloud, index_N)[:, : len(cloud.transform)].clone()
    won, found = [], []
    idle, block = 0, max(1, _SCORES // head.num_rows)
    for step in range(PATIENCE):
        home_N = torch.zeros_like(walkers_N, dtype=torch.bool)
        for a in range(0, len(walkers_N), block):
            part = slice(a, a + block)
            home_N[part], v_ND[part] = _step(head, cloud, walkers_N[part], v_ND[part])
        won.append(walkers_N[home_N])
        found.append(v_ND[home_N])
        idle = idle + 1 if home_N.sum() < 0.01 * len(walkers_N) else 0
        walkers_N, v_ND = walkers_N[~home_N], v_ND[~home_N]
        if progress is not None:
            progress("reflection", step + 1, PATIENCE)
        if len(walkers_N) == 0 or idle == _IDLE:
            break
    return _judge(head, torch.cat(won), torch.cat(found).double() @ cloud.transform)


def _step(head: Distinct, cloud: Cloud, index_N: Tensor, v_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Who leads in float32, and the states: kept for the leaders, reflected for the others."""
    bias_N = head.bias[index_N].float()
    query_NC = v_ND.new_zeros(len(v_ND), cloud.lifted.shape[1])  # without what guards a self-test
    query_NC[:, : v_ND.shape[1]] = v_ND
    if head.box is not None:
        query_NC[:, -1] = 1
    with ieee_float32():
        score_NM = query_NC @ cloud.lifted.T
    score_NM[torch.arange(len(index_N), device=index_N.device), index_N] = -torch.inf
    rival_N = score_NM.argmax(1)

    normal_ND = cloud.rows[index_N] - cloud.rows[rival_N]
    offset_N = bias_N - head.bias[rival_N].float()
    lead_N = (v_ND * normal_ND).sum(1) + offset_N
    # Rows that differ in bias only have no hyperplane between them: the walk stands still.
    length_N = normal_ND.square().sum(1).clamp_min(1e-20)
    moved_ND = v_ND - (2 * lead_N / length_N)[:, None] * normal_ND
    if head.box is not None:
        reach_N = (moved_ND.double() @ cloud.transform).abs().amax(1).clamp_min(1e-30)
        moved_ND = moved_ND * (head.box * (1 - 1e-5) / reach_N).clamp_max(1).float()[:, None]
    home_N = lead_N > 0
    return home_N, torch.where(home_N[:, None], v_ND, moved_ND)


def _judge(head: Distinct, index_N: Tensor, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    margin_N = x_ND.new_empty(len(index_N))
    ok_N = head.inside(x_ND)
    block = max(1, _SCORES // (4 * head.num_rows))
    for a in range(0, len(index_N), block):
        part = slice(a, a + block)
        lead_NM = head.leads(index_N[part], x_ND[part])
        margin_N[part] = lead_NM.amin(1)
        ok_N[part] &= (lead_NM > head.tolerances(index_N[part], x_ND[part])).all(1)
    return index_N[ok_N], margin_N[ok_N], x_ND[ok_N]
