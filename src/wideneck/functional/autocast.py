"""Computing in the dtypes that tensors have."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def without_autocast(kind: str) -> AbstractContextManager[Any]:
    """Inside, products have the dtype of their factors.

    Args:
        kind: the type of the device, which may be one that has no autocast.
    """
    return torch.autocast(kind, enabled=False) if autocasts(kind) else nullcontext()


def autocasts(kind: str) -> bool:
    """Whether autocast is on for a type of device."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
