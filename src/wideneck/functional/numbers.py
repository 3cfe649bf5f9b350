"""Numbers of a config that came as tensors: one place that checks, converts and shapes them.

A number of a normalizer or an activation may be a tensor, so that it can be learned, or differ from
row to row.  What a config says of a number holds for each entry of the tensor: the config itself is
asked, with the smallest and the largest entry in the tensor's place.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.registry import NOT_A_TENSOR


def may_look(tensor: Tensor) -> bool:
    """Whether values can be read: not of a graph under construction, nor inside a transform.

    On accelerators only under anomaly detection, as reading waits for them.
    """
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return False
    return tensor.device.type == "cpu" or (
        tensor.device.type != "meta" and torch.is_anomaly_enabled()
    )


def with_tensors(
    config: Any, owner: str, like: Tensor, fit: Callable[[str, Tensor], Tensor]
) -> Any:
    """A config whose numbers that are tensors are of the dtype and device of `like`.

    Args:
        config: a frozen dataclass whose fields check themselves.
        owner: its name, for messages.
        like: the dtype and device to compute in.
        fit: takes a field's name and its tensor, and refuses or reshapes it.

    Raises:
        WideneckError: no tensor of real numbers, one that `fit` refuses, and one with an entry that
            the config would refuse as a number, looked for where `may_look` allows.
    """
    found = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, NOT_A_TENSOR):
            continue
        value = _real(owner, field.name, value)
        if value.numel() and may_look(value):
            for bound in value.detach().aminmax():
                replace(config, **{field.name: float(bound)})
        found[field.name] = fit(field.name, value.to(dtype=like.dtype, device=like.device))
    return replace(config, **found) if found else config


def fits(shape: torch.Size, into: torch.Size) -> bool:
    """Whether a tensor of a shape broadcasts against another's without making it larger."""
    tail = into[len(into) - len(shape) :]
    return len(shape) <= len(into) and all(a in (1, b) for a, b in zip(shape, tail, strict=True))


def plain_number(name: str, value: Any) -> float:
    """A number that the fused loss knows no gradient of: a float or int, or a tensor of one.

    Raises:
        WideneckError: something else, or a tensor that requires a gradient.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    single = isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
    if not single or value.dtype == torch.bool:
        raise WideneckError(f"{name} needs a number, got {value!r}.")
    if value.requires_grad:
        raise WideneckError(
            f"{name} is a constant of the loss and gets no gradient, got a tensor that requires "
            "one: give a number, or detach it."
        )
    return value.item()


def _real(owner: str, name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        try:  # numbers and arrays of numpy
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise WideneckError(
                f"{owner} needs a number or a tensor for {name}, got {type(value).__name__}."
            ) from error
    if value.is_complex() or value.dtype == torch.bool:
        raise WideneckError(f"{owner} needs real numbers for {name}, got {value.dtype}.")
    return value
