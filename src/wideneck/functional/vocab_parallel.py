"""The vocabulary split over processes: who holds which rows."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor import Shard as RowShard

from wideneck.errors import WideneckError
from wideneck.functional.chunks import memory_of
from wideneck.functional.shard import WHOLE, Shard
from wideneck.functional.transforms import is_transformed, refuse_parts


def locate(
    weight: Tensor, bias: Tensor | None, group: Any, *same: Tensor | None
) -> tuple[Tensor, Tensor | None, Shard]:
    """Local rows of weight and bias, and where in the vocabulary they lie.

    One gather of three numbers from each process: its count of rows, a sum over the bits of its
    targets and what else must be the `same` everywhere, and the memory of its device.
    """
    if isinstance(weight, DTensor):
        if group is not None:
            raise WideneckError("A DTensor weight knows its process group; leave out group.")
        if weight.device_mesh.ndim != 1 or weight.placements != (RowShard(0),):
            raise WideneckError(
                "A DTensor linear_weight must be sharded on its rows (the vocabulary) over a mesh "
                f"of one dimension, got placements {weight.placements} over {weight.device_mesh}."
            )
        group = weight.device_mesh.get_group()
        weight = weight.to_local()
        if isinstance(bias, DTensor):
            bias = bias.to_local()
    if group is None:
        return weight, bias, WHOLE
    if is_transformed():
        refuse_parts(Shard(group=group))
    bits = sum(_bits(tensor) for tensor in same if tensor is not None) % 2**62
    mine = torch.tensor([weight.shape[0], bits, memory_of(weight.device)], device=weight.device)
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, mine, group=group)
    sizes, sums, memory = zip(*torch.stack(everyone).tolist(), strict=True)
    if len({*sums}) > 1:
        raise WideneckError(
            "Every process of a vocabulary-parallel loss must get the same targets, weights of "
            "classes and hidden states; the targets or these weights differ."
        )
    if 0 in sizes:
        raise WideneckError(
            f"Every process of a vocabulary-parallel loss needs at least one row of linear_weight, "
            f"got {list(sizes)}: use fewer processes."
        )
    rank = dist.get_rank(group)
    start = sum(sizes[:rank])
    return weight, bias, Shard(start, sizes[rank], group, sum(sizes), max(sizes), min(memory))


def _bits(tensor: Tensor) -> int:
    """The sum of a tensor's bits, read as whole numbers, each times its place."""
    if tensor.is_floating_point():
        whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
        tensor = tensor.detach().contiguous().view(whole)
    return int((tensor.flatten() * torch.arange(1, tensor.numel() + 1, device=tensor.device)).sum())


def shared(number: Any, shard: Shard) -> Any:
    """A number that acts on every process's own rows, so that its gradients must be added up."""
    if shard.is_whole or not isinstance(number, Tensor):
        return number
    return _SumGradient.apply(number, shard)


class _SumGradient(torch.autograd.Function):
    """The identity for a number that every process has; its gradients are added up."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, shard: Shard) -> Tensor:  # pyrefly: ignore[bad-override]
        ctx.shard = shard
        return number.view_as(number)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor):  # pyrefly: ignore[bad-override]
        return ctx.shard.add_up(gradient.clone()), None
