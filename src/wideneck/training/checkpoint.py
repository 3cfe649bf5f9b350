"""Models and optimizers to named tensors and back: what a run needs to go on, beside numbers.

Nothing is copied on the way to the file on a CPU, and on loading one tensor at a time.
Tensors of an accelerator come to the CPU first; sharded ones (FSDP2) are gathered one by one, and
only the process that writes keeps them.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from wideneck.errors import WideneckError
from wideneck.training.tensor_file import Stored

STEPS = "step"
"""torch's name for how many steps an optimizer has taken."""


def collected(named: Iterable[tuple[str, Tensor]], *, keep: bool) -> dict[str, Tensor]:
    """All of them, or none: a process that writes nothing still takes part in gathering each."""
    return {name: tensor for name, tensor in named if keep}


def model_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters (tied ones once) and buffers by name, whole and on the CPU, one at a time."""
    for name, tensor in _kept(model).items():
        yield name, whole(tensor)


def optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state by parameter and key, whole and on the CPU, one at a time."""
    for name, parameter in model.named_parameters():
        for key, tensor in optimizer.state.get(parameter, {}).items():
            yield f"{name}.{key}", whole(tensor)


@torch.no_grad()
def load_model(model: nn.Module, stored: Stored, prefix: str = "") -> None:
    """Put the parameters and buffers below a prefix in their places."""
    mine, path = _kept(model), stored.path
    for name in sorted(mine.keys() ^ set(stored.names(prefix))):
        lack = "lacks" if name in mine else "has besides"
        raise WideneckError(f"{path} does not fit this model: it {lack} {name}.")
    for name, tensor in mine.items():
        shape = stored.shape(prefix + name)
        if shape != tuple(tensor.shape):
            raise WideneckError(
                f"{path} does not fit this model: {name} has shape {shape} there and "
                f"{tuple(tensor.shape)} here; was the vocabulary or the recipe changed?"
            )
    for name, tensor in stored.tensors(prefix):
        put(mine[name], tensor)


@torch.no_grad()
def load_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, stored: Stored, prefix: str
) -> None:
    """Give every parameter the state that it had."""
    parameters = dict(model.named_parameters())
    for key, tensor in stored.tensors(prefix):
        name, _, entry = key.rpartition(".")
        if name not in parameters:
            raise WideneckError(f"{stored.path} does not fit this model: it has besides {name}.")
        parameter = parameters[name]
        if entry == STEPS:  # which the fused step keeps beside its parameter
            mine = tensor.to(parameter.device, copy=True)
        else:
            mine = torch.zeros_like(parameter)
            put(mine, tensor)
        optimizer.state[parameter][entry] = mine


def whole(tensor: Tensor) -> Tensor:
    """Detached, on the CPU, contiguous; gathered where it is sharded (all processes must call)."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.cpu().contiguous()


def put(place: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into its place, or each process's part of it."""
    if isinstance(place, DTensor):
        value = value.to(place.device_mesh.device_type, place.dtype)
        place.copy_(distribute_tensor(value, place.device_mesh, place.placements))
    else:
        place.copy_(value)


def _kept(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: no buffers that it makes itself, such as frequencies."""
    kept = model.state_dict().keys()
    both = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor for name, tensor in both if name in kept}
