"""Where and how a model runs: device, type of its weights, map of its modules, windows at once.

Given as a user gives them, checked once, and carried as one `Placement`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wideneck.errors import WideneckError
from wideneck.models.device_map import (
    DISK,
    DeviceMap,
    computing,
    device_map_of,
    in_full,
    input_device,
)
from wideneck.models.devices import AUTO, CPU, device_here, multiplies
from wideneck.registry import shown

DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.bfloat16, torch.float16)}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What was asked for, looked up on this machine."""

    device: torch.device = CPU
    """Where the model runs where no map says more."""
    dtype: torch.dtype | None = torch.float32
    """Of the weights; None for the type that they are stored in."""
    device_map: DeviceMap | None = None
    max_memory: dict[int | str, int] | None = None
    """Bytes by device, for a map that is AUTO."""
    batch: int | None = None
    """Windows at once; None for what suits the model (`models.batches`)."""

    @property
    def measuring(self) -> torch.device:
        """Where what follows the model is computed: the device if it has float64, else the CPU."""
        return self.device if multiplies(self.device, torch.float64) else CPU


def placement(
    device: str | torch.device = AUTO,
    dtype: str | torch.dtype = AUTO,
    device_map: str | os.PathLike | Mapping[str, Any] | None = None,
    max_memory: Mapping[int | str, int] | None = None,
    batch: int | str = AUTO,
    *,
    local_rank: int = 0,
) -> Placement:
    """Check all of it, and look it up on this machine.

    Args:
        device: "cpu", an accelerator such as "cuda:1", or "auto": an accelerator if there is one.
        dtype: "float32", "bfloat16", "float16", or "auto": as stored where an accelerator
            computes, float32 on the CPU.
        device_map: "auto"; or a JSON file or a dict, from names of modules to devices, "cpu" or
            "disk".
        max_memory: bytes by device, "cpu" or an accelerator's number, for the map "auto".
        batch: windows at once, or "auto".
        local_rank: number of the accelerator that is meant where none is named.

    Raises:
        WideneckError: a device that is not here, a type that it lacks, a map that is none, or
            options that contradict each other.
    """
    if device_map is not None and device != AUTO:
        raise WideneckError(
            f"A map of devices says where the model is, and device {device} something else: leave "
            "one of the two out."
        )
    here = device_here(device, local_rank)
    places = None if device_map is None else device_map_of(device_map)
    if max_memory is not None and places != AUTO:
        raise WideneckError("Memory by device is for the device map auto: ask for that as well.")
    runs_on = computing(places) if isinstance(places, dict) else {here}
    numbers = _dtype(dtype)
    if dtype == AUTO and runs_on != {CPU}:
        numbers = None
    lacking = [] if numbers is None else [one for one in runs_on if not multiplies(one, numbers)]
    if lacking:
        raise WideneckError(
            f"{lacking[0]} has no products of {dtype}: give another dtype, or another device."
        )
    return Placement(
        device=here,
        dtype=numbers,
        device_map=places,
        max_memory=None if max_memory is None else _memory(max_memory),
        batch=_batch(batch),
    )


def placed(
    model: Any,
    device: str | torch.device = AUTO,
    dtype: str | torch.dtype = AUTO,
    device_map: str | os.PathLike | Mapping[str, Any] | None = None,
    max_memory: Mapping[int | str, int] | None = None,
    batch: int | str = AUTO,
    *,
    local_rank: int = 0,
) -> Placement:
    """`placement` of a model that is named; one in memory is where it is, in the types that it has.

    Raises:
        WideneckError: as `placement`; or another place is asked for a model in memory.
    """
    asked = {"device": device, "dtype": dtype, "device_map": device_map, "max_memory": max_memory}
    if not isinstance(model, nn.Module):
        return placement(**asked, batch=batch, local_rank=local_rank)
    given = [name for name, value in asked.items() if value is not None]
    given = [name for name in given if name == "device_map" or asked[name] != AUTO]
    if given:
        raise WideneckError(
            f"A {type(model).__name__} in memory stays where it is, in its own dtype: leave "
            f"{', '.join(given)} out, or name the model by its folder or id."
        )
    return Placement(device=input_device(model), dtype=None, batch=_batch(batch))


def _dtype(given: str | torch.dtype) -> torch.dtype:
    if given == AUTO:
        return torch.float32
    name = str(given).removeprefix("torch.")
    if name not in DTYPES:
        raise WideneckError(f"A dtype is one of auto, {', '.join(DTYPES)}, got {given}.")
    return DTYPES[name]


def _memory(given: Any) -> dict[int | str, int]:
    """By device as accelerate calls it: an accelerator by its number."""
    if not isinstance(given, Mapping) or not given:
        raise WideneckError(
            "Memory by device is a number of bytes for each, as in {'cpu': 20_000_000_000}, got "
            f"{shown(given)}."
        )
    found: dict[int | str, int] = {}
    for device, size in given.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise WideneckError(
                f"Memory of device {device} is a number of bytes from 1 on, got {shown(size)}."
            )
        if device in (AUTO, DISK):
            raise WideneckError(
                f"Memory is for an accelerator's number or cpu, got {device}: what fits neither "
                "goes to the disk."
            )
        here = torch.device(in_full(device))
        name = here.type if here.index is None or here.type == "mps" else here.index
        if name in found:
            raise WideneckError(f"Memory of device {name} is given twice: give it once.")
        found[name] = size
    return found


def _batch(given: Any) -> int | None:
    if given == AUTO:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise WideneckError(
            f"A batch is a number of windows from 1 on, or auto, got {shown(given)}."
        )
    return given
