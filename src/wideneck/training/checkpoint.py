"""All that a run needs to go on, in one safetensors file that is whole or not there.

Parameters, buffers, the optimizer's state, averages, the state that is carried through the text
and the random generators are tensors; place, history and counts are JSON in the file's header.
Written to a temporary name, forced to the disk and renamed, so a run killed at any moment finds
the last whole one.  Nothing is copied on the way on a CPU, and on loading one tensor at a time.
Tensors of an accelerator come to the CPU first; sharded ones (FSDP2) are gathered one by one, and
only the process that writes keeps them.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from wideneck.errors import WideneckError
from wideneck.files.writing import make_readable

HEADER = "wideneck"
STEPS = "step"
"""torch's name for how many steps an optimizer has taken."""


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """A safetensors file with a JSON header.

    Raises:
        WideneckError: the disk is full, or writing is not allowed; what stood at `path` before is
            still there.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, temporary, {HEADER: json.dumps(about)})
        with temporary.open("rb+") as file:  # Windows forces to the disk what it may write
            os.fsync(file.fileno())
        make_readable(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise WideneckError(
            f"{path} could not be written: {reason}. What was there before is kept; make room and "
            "start the same command again."
        ) from error


def read_header(path: Path) -> dict[str, Any]:
    """What `write_tensors` was told about the tensors.

    Raises:
        WideneckError: the file is not one of these, or damaged.
    """
    with _opened(path) as file:
        try:
            return json.loads((file.metadata() or {})[HEADER])
        except (KeyError, ValueError):
            raise WideneckError(
                f"{path} was not written by wideneck train: its header says nothing of a run."
            ) from None


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
def load_model(model: nn.Module, path: Path, prefix: str = "") -> None:
    """Put parameters and buffers in their places.

    Raises:
        WideneckError: the file is missing or damaged, or a tensor is missing, left over, or of
            another shape.
    """
    mine = _kept(model)
    with _opened(path) as file:
        stored = {k.removeprefix(prefix) for k in file.keys() if k.startswith(prefix)}
        for name in sorted(mine.keys() ^ stored):
            lack = "lacks" if name in mine else "has besides"
            raise WideneckError(f"{path} does not fit this model: it {lack} {name}.")
        for name, tensor in mine.items():
            shape = tuple(file.get_slice(prefix + name).get_shape())
            if shape != tuple(tensor.shape):
                raise WideneckError(
                    f"{path} does not fit this model: {name} has shape {shape} there and "
                    f"{tuple(tensor.shape)} here; was the vocabulary or the recipe changed?"
                )
            put(tensor, file.get_tensor(prefix + name))


@torch.no_grad()
def load_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, path: Path, prefix: str
) -> None:
    """Give every parameter the state that it had."""
    with _opened(path) as file:
        keys = [key for key in file.keys() if key.startswith(prefix)]
        parameters = dict(model.named_parameters())
        for key in keys:
            name, _, entry = key.removeprefix(prefix).rpartition(".")
            stored, parameter = file.get_tensor(key), parameters[name]
            if entry == STEPS:  # which the fused step keeps beside its parameter
                mine = stored.to(parameter.device, copy=True)
            else:
                mine = torch.zeros_like(parameter)
                put(mine, stored)
            optimizer.state[parameter][entry] = mine


def tensors_below(path: Path, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of each one below a prefix, one at a time, as copies."""
    with _opened(path) as file:
        for key in file.keys():
            if key.startswith(prefix):
                yield key.removeprefix(prefix), file.get_tensor(key).clone()


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


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise WideneckError(f"There is no file {path}.") from None
    except (OSError, SafetensorError) as error:
        raise WideneckError(
            f"{path} is damaged ({error}); remove it, or its folder to start over."
        ) from None
