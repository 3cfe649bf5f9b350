"""Norms of gradients, whole or shared by processes."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor


def squared_norm(gradients: Iterable[Tensor]) -> float:
    """The sum of squares of all numbers of all gradients.

    One all-reduce for each way in which the gradients are shared, whatever their number.
    """
    totals: dict[tuple[Any, ...], list[Tensor]] = {}
    for gradient in gradients:
        groups: tuple[Any, ...] = ()
        if isinstance(gradient, DTensor):
            mesh = gradient.device_mesh
            shards = [dim for dim, at in enumerate(gradient.placements) if at.is_shard()]
            groups = tuple(mesh.get_group(dim) for dim in shards)
            gradient = gradient.to_local()
        norm = torch.linalg.vector_norm(
            gradient, dtype=torch.promote_types(gradient.dtype, torch.float32)
        )
        totals.setdefault(groups, []).append(norm.double().square())
    whole = 0.0
    for groups, squares in totals.items():
        total = torch.stack(squares).sum()
        for group in groups:
            dist.all_reduce(total, group=group)
        whole += total.item()
    return whole


def head_share(model: Any, weight: Tensor) -> float | None:
    """The output matrix's part of the squared norm of the gradient; None without gradients."""
    if weight.grad is None:
        return None
    ours = squared_norm([weight.grad])
    total = squared_norm(p.grad for p in model.parameters() if p.grad is not None)
    return ours / total if total > 0 else None
