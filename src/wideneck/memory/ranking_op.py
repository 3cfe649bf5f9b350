"""The ranking loss as an operator that a compiled graph calls and does not look into.

How many queries have a positive, and how many tokens differ, a graph cannot know beforehand.
"""

from typing import Any

import torch
from torch import Tensor

from wideneck.functional.items import per_item
from wideneck.memory.hinges import hinges_and_gradient
from wideneck.memory.mixture import positives
from wideneck.memory.ranking import Ranking
from wideneck.memory.ranks import Ranks, Rows

IN_GRAPH = ("sum", "pair_mean")
"""Reductions whose gradient is found with the loss."""


def ranking_loss_in_graph(
    s: Tensor,
    visible: Tensor,
    values: Tensor,
    target: Tensor,
    rows: Rows,
    *,
    margin: float,
    reduction: str,
    rank_over: str,
) -> Ranking:
    """`ranking_loss`, for a reduction `IN_GRAPH`."""
    over_all = rank_over == "all"
    loss, num_pairs, _ = torch.ops.wideneck.ranking_loss(
        s, visible, values, target, rows.ids, rows.rows, margin, reduction == "pair_mean", over_all
    )
    return Ranking(loss, num_pairs)


@torch.library.custom_op("wideneck::ranking_loss", mutates_args=())
def _hinges(
    s: Tensor,
    visible: Tensor,
    values: Tensor,
    target: Tensor,
    ids: Tensor,
    rows: Tensor,
    margin: float,
    is_mean: bool,
    over_all: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, number of pairs, and the gradient of the loss in `s`."""
    good = positives(visible, values, target)
    row = good.any(-1).nonzero(as_tuple=True)
    ranks = Ranks(values, target, row, Rows(ids, rows), None if over_all else visible)
    loss, num_pairs, gradient = hinges_and_gradient(
        s, visible, good, row, ranks, margin, wants=True
    )
    assert gradient is not None
    if is_mean:
        loss, gradient = per_item(loss, num_pairs), per_item(gradient, num_pairs)
    return loss, num_pairs, gradient


@_hinges.register_fake
def _(s, visible, values, target, *rest):
    return s.new_empty(()), target.new_empty(()), torch.empty_like(s)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(output[2])


def _backward(ctx: Any, loss: Tensor, *_: Any):
    (gradient,) = ctx.saved_tensors
    return (gradient * loss, *(None,) * 8)


_hinges.register_autograd(_backward, setup_context=_keep)
