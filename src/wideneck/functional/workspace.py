"""One buffer of scores for each thread, kept between calls.

The operating system clears fresh pages on first touch: for 256 MiB that takes as long as a
tenth of the loss.  Accelerators have a caching allocator of their own and get a plain tensor.
"""

import threading

import torch
from torch import Tensor

_kept = threading.local()


def workspace(size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialized vector of at least `size` numbers, valid until the thread's next call."""
    if device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    held = getattr(_kept, "buffer", None)
    if held is None or held.dtype != dtype or held.numel() < size:
        _kept.buffer = None  # before the new one is made, not after
        with torch.inference_mode(False):  # a tensor made in that mode could not be trained on
            held = _kept.buffer = torch.empty(size, dtype=dtype, device=device)
    return held


def release_workspace() -> None:
    """Gives the calling thread's buffer back to the system."""
    _kept.buffer = None
