"""The passes over scores through `torch.compile`, which makes one kernel of each."""

import warnings
from collections.abc import Callable, Hashable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

_works: dict[Hashable, bool] = {}
"""What has been tried."""


def compiled(step: Callable, kind: tuple, given: tuple) -> Any:
    """`step(*given)` through `torch.compile`; as it is, after one warning, where that fails.

    Tried out on a copy of two rows: a failure half way would leave the scores half changed.

    Args:
        step: a function of tensors (R, ...).
        kind: all that its kernel depends on but shapes.
        given: the arguments.
    """
    kind = (step.__name__, *kind)
    if kind not in _works:
        try:
            # Copies, no views: a kernel that was made for a view does not take what is none.
            few = (x[:2].clone() if isinstance(x, Tensor) else x for x in given)
            _fast(step, kind)(*few)
            _works[kind] = True
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # no compiler, an unsupported device, a bug of its own
            if False not in _works.values():
                warnings.warn(
                    f"wideneck: torch.compile failed ({type(error).__name__}); the output layer "
                    "runs without it, more slowly and with the same results.",
                    stacklevel=3,
                )
            _works[kind] = False
    return (_fast(step, kind) if _works[kind] else step)(*given)


@cache
def _fast(step: Callable, kind: tuple) -> Callable:
    """`step`, compiled for one kind.

    The tracer counts the kernels of a code object, and after eight makes no more: each kind has a
    code object of its own.
    """
    own = FunctionType(step.__code__.replace(), step.__globals__, step.__name__)  # pyrefly: ignore[missing-attribute]
    return torch.compile(own, dynamic=True)
