"""The passes over scores through `torch.compile`, which makes one kernel of each."""

import warnings
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import torch

_works: dict[Hashable, bool] = {}
"""What has been tried."""


def compiled(step: Callable, kind: tuple, trial: tuple, given: tuple) -> Any:
    """`step(*given)` through `torch.compile`; as it is, after one warning, where that fails.

    Args:
        step: a function of tensors.
        kind: all that its kernel depends on but shapes.
        trial: arguments to try it on first, which may be lost: a failure half way would leave the
            scores half changed.
        given: the arguments.
    """
    kind = (step.__name__, *kind)
    if kind not in _works:
        try:
            _fast(step)(*trial)
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
    return (_fast(step) if _works[kind] else step)(*given)


@cache
def _fast(step: Callable) -> Callable:
    return torch.compile(step, dynamic=True)
