"""Which devices this machine has, and what they can compute."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError

AUTO = "auto"
CPU = torch.device("cpu")


def accelerator() -> torch.device | None:
    """The kind of accelerator that is here, without a number; None where there is none."""
    return torch.accelerator.current_accelerator(check_available=True)


def device_here(given: str | torch.device, local_rank: int = 0) -> torch.device:
    """A device of this machine, with its number.

    Args:
        given: as torch names it; or "auto", an accelerator if there is one.
        local_rank: number of the accelerator where none is given.

    Raises:
        WideneckError: there is none of that name, or none of that number.
    """
    found = accelerator()
    if given == AUTO:
        if found is None:
            return CPU
        given = found.type
    try:
        asked = torch.device(given)
    except (RuntimeError, TypeError):
        raise _not_here(given) from None
    if asked.type == "cpu":
        return CPU
    index = local_rank if asked.index is None else asked.index
    if found is not None and asked == found and index >= torch.accelerator.device_count():
        raise WideneckError(
            f"Process {local_rank} of this machine would have accelerator {index}, and there are "
            f"{torch.accelerator.device_count()}: start one process for each at most, or give "
            "--device cpu."
        )
    if found is None or asked.type != found.type or index >= torch.accelerator.device_count():
        raise _not_here(given)
    return torch.device(asked.type, index)


@lru_cache(maxsize=64)
def multiplies(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the device has products of numbers of this type."""
    try:
        one = torch.ones(1, 1, dtype=dtype, device=device)
        return float((one @ one).item()) == 1
    except (RuntimeError, TypeError):
        return False


def in_float64(values: Tensor) -> Tensor:
    """The values in float64: where they are, or on the CPU, as not every accelerator has it."""
    return (values if multiplies(values.device, torch.float64) else values.cpu()).double()


def _not_here(given: Any) -> WideneckError:
    found, there = accelerator(), [AUTO, "cpu"]
    if found is not None:
        there += [f"{found.type}:{i}" for i in range(torch.accelerator.device_count())]
    return WideneckError(f"There is no device {given} here: give one of {', '.join(there)}.")
