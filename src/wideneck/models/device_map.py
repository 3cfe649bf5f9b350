"""Maps that place the modules of a model on several devices, the CPU and the disk.

They are accelerate's: wideneck checks them and hands them to transformers.  What lies on the disk,
or on the CPU beside an accelerator, comes to where it is computed when its turn is, a layer at a
time, and in between its weights are on the meta device: what is read of them is read inside
`weights_there`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wideneck.errors import WideneckError
from wideneck.files.json_object import read_object
from wideneck.models.devices import AUTO, CPU, accelerator, device_here
from wideneck.registry import shown

DeviceMap = str | dict[str, str]
"""AUTO, or by the name of a module "disk" or a device."""
DISK = "disk"


def device_map_of(given: str | os.PathLike | Mapping[str, Any]) -> DeviceMap:
    """What a user gives, with every device in full.

    Args:
        given: "auto"; or a dict, or a JSON file of one, from names of modules to "cpu", "disk", a
            device or its number.

    Raises:
        WideneckError: it is none of these, the file holds no JSON object, or the map a device that
            is not here.
    """
    if given == AUTO:
        return AUTO
    if not isinstance(given, str | os.PathLike | Mapping):
        raise WideneckError(f"A map of devices is auto, a JSON file or a dict, got {shown(given)}.")
    if not isinstance(given, Mapping):
        name = os.fspath(given)
        given = read_object(Path(name), name, 'write {"MODULE": "DEVICE"} into it, or give auto')
    if not given:
        raise WideneckError('The map of devices is empty: give {"": "cpu"}, or leave it out.')
    return {str(name): in_full(where) for name, where in given.items()}


def computing(device_map: dict[str, str]) -> set[torch.device]:
    """Where something is computed: what lies on the disk or the CPU goes to an accelerator."""
    named = {torch.device(where) for where in device_map.values() if where != DISK}
    return {device for device in named if device != CPU} or {CPU}


def apart(device_map: dict[str, str], model: nn.Module) -> dict[str, str]:
    """The same map with no module inside another, as accelerate wants it.

    A module around one that has a place of its own is replaced by its parts.

    Args:
        model: on the meta device will do.

    Raises:
        WideneckError: the map names no module of the model, leaves weights out, parts tied ones, or
            a module from weights that it holds itself.
    """
    weights = dict(model.named_parameters(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in device_map:
        if name in weights:
            raise WideneckError(
                f"The map of devices names {name}, and the place of a weight is that of its "
                f"module: name {name.rpartition('.')[0]}."
            )
        if name not in modules:
            some = sorted({*modules} - {""}, key=lambda name: (name.count("."), len(name)))[:4]
            raise WideneckError(
                f"The map of devices names '{name}', which is no module of this "
                f"{type(model).__name__}: it has {', '.join(some)} and more."
            )
    seen: dict[nn.Parameter, tuple[str, str]] = {}
    for name, weight in weights.items():
        parts = [part for part in device_map if f"{name}.".startswith(f"{part}." if part else "")]
        if not parts:
            raise WideneckError(
                f"The map of devices says nothing of {name}: name its module, or '' for whatever "
                "is left."
            )
        place = device_map[max(parts, key=len)]
        other, there = seen.setdefault(weight, (name, place))
        if place != there:
            raise WideneckError(
                f"The map of devices puts {other} on {there} and {name} on {place}, and in this "
                f"{type(model).__name__} they are one matrix: give both the same place."
            )
    return dict(_parts(device_map, model))


def _parts(
    device_map: dict[str, str], module: nn.Module, name: str = "", place: str | None = None
) -> Iterator[tuple[str, str]]:
    """The outermost modules of which every part has one place, with that."""
    place = device_map.get(name, place)
    inside = f"{name}." if name else ""
    if not any(other != name and other.startswith(inside) for other in device_map):
        if place is not None:
            yield name, place
        return
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    if own and place is not None:
        raise WideneckError(
            f"The map of devices gives parts of {name or type(module).__name__} other places than "
            f"its own {own[0][0]}: give the whole of it one place."
        )
    for child, part in module.named_children():
        yield from _parts(device_map, part, f"{inside}{child}", place)


def map_of(model: Any) -> dict[str, str] | None:
    """Devices by the names of modules; None for a model that is on a single one."""
    found = getattr(model, "hf_device_map", None) or {}
    named = {name: in_full(where) for name, where in found.items()}
    return named if len(set(named.values())) > 1 or DISK in named.values() else None


def is_offloaded(model: Any) -> bool:
    """Whether parts of a model come to where they are computed only when their turn is."""
    places = set((map_of(model) or {}).values())
    return DISK in places or ("cpu" in places and len(places) > 1)


def input_device(model: Any) -> torch.device:
    """Where a model takes its ids: with its first weights, or on the CPU where those lie apart."""
    first = next(model.parameters(), None)
    apart = first is not None and first.is_meta and is_offloaded(model)
    return CPU if first is None or apart else first.device


@contextmanager
def weights_there(*modules: nn.Module) -> Iterator[None]:
    """Inside, the weights of these modules themselves are there, wherever a map has put them."""
    from accelerate.utils import align_module_device

    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(align_module_device(module))
        yield


def in_full(where: Any) -> str:
    """What a map gives a module: "disk", or the name of a device that is here."""
    found = accelerator()
    if isinstance(where, int) and not isinstance(where, bool):  # accelerate's for an accelerator
        where = str(where) if found is None else f"{found.type}:{where}"
    if not isinstance(where, str | torch.device):
        raise WideneckError(
            f"A map of devices gives every module a device, 'cpu' or 'disk', got {where!r}."
        )
    return DISK if where == DISK else str(device_here(where))
