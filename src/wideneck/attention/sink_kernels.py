"""PyTorch's attention kernels, called for their log-normalizers, and their backward passes.

Each gives out (B, H, Q, Dv), L = log sum_j exp(s_j) as (B, H, Q) in float32 (-inf or +inf for a
query that sees nothing, whose output is 0), and what its backward pass wants besides.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_flash = torch.ops.aten._scaled_dot_product_flash_attention
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_backward
_efficient = torch.ops.aten._scaled_dot_product_efficient_attention
_efficient_backward = torch.ops.aten._scaled_dot_product_efficient_attention_backward


@dataclass(frozen=True)
class Kernel:
    """A pair of passes; both take (..., mask, is_causal, scaling)."""

    forward: Callable[..., tuple[Tensor, Tensor, tuple[Any, ...]]]
    """(query, key, value, mask, is_causal, scaling) -> out, L, what else backward wants."""
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    """(grad, query, key, value, out, L, what else, mask, is_causal, scaling) -> gradients."""
    takes_groups: bool
    """Whether heads may share keys."""


def kernel_of(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Kernel | None:
    """The kernel that takes such a call, by what PyTorch's own dispatch asks; None for none."""
    same = query.dtype == key.dtype == value.dtype
    if not same or min(query.shape[2], key.shape[2]) == 0:
        return None
    width, kind = query.shape[-1], query.device.type
    if kind == "cpu":
        return CPU if width == value.shape[-1] else None
    if kind != "cuda" or torch.version.cuda is None:
        return None
    half = query.dtype in (torch.float16, torch.bfloat16)
    if mask is None and half and width == value.shape[-1] and width % 8 == 0 and width <= 256:
        if torch.backends.cuda.flash_sdp_enabled() and _has_flash(_capability(query), width):
            return FLASH
    aligned = 8 if half else 4
    fits = width % aligned == 0 and value.shape[-1] % aligned == 0
    if fits and torch.backends.cuda.mem_efficient_sdp_enabled():
        return EFFICIENT if half or query.dtype == torch.float32 else None
    return None


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a key is visible, else -inf, with the four dimensions that kernels want."""
    while mask.ndim < 4:
        mask = mask[None]
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


def _capability(tensor: Tensor) -> tuple[int, int]:
    return torch.cuda.get_device_capability(tensor.device)


def _has_flash(capability: tuple[int, int], width: int) -> bool:
    """Ada, small Ampere and small Blackwell GPUs have no backward pass for widths 200 to 224."""
    if capability[0] < 8:
        return False
    return not 192 < width <= 224 or capability not in ((8, 6), (8, 9), (12, 0), (12, 1))


def _on_cpu(query, key, value, mask, is_causal, scaling):
    added = None if mask is None else additive(mask, query.dtype)
    out, lse = _cpu(query, key, value, 0.0, is_causal, attn_mask=added, scale=scaling)
    return out, lse, ()


def _back_on_cpu(grad, query, key, value, out, lse, _more, mask, is_causal, scaling):
    added = None if mask is None else additive(mask, query.dtype)
    given = (grad, query, key, value, out, lse, 0.0, is_causal)
    return _cpu_backward(*given, attn_mask=added, scale=scaling)


def _by_flash(query, key, value, _mask, is_causal, scaling):
    out, lse, *more = _flash(query, key, value, 0.0, is_causal, False, scale=scaling)
    return out, lse, tuple(more[:6])


def _back_by_flash(grad, query, key, value, out, lse, more, _mask, is_causal, scaling):
    *borders, seed, offset = more
    given = (grad, query, key, value, out, lse, *borders, 0.0, is_causal, seed, offset)
    return _flash_backward(*given, scale=scaling)


def _by_efficient(query, key, value, mask, is_causal, scaling):
    bias = _aligned(mask, query, key)
    out, lse, *more = _efficient(query, key, value, bias, True, 0.0, is_causal, scale=scaling)
    return out, lse[..., : query.shape[2]].contiguous(), (lse.shape[-1], *more)


def _back_by_efficient(grad, query, key, value, out, lse, more, mask, is_causal, scaling):
    bias = _aligned(mask, query, key)
    length, *seeds = more
    # The kernel has its log-normalizers in rows of a multiple of 32; what is added is not read.
    lse = F.pad(lse, (0, length - lse.shape[-1]))
    wanted = [True, True, True, False]
    given = (grad, query, key, value, bias, out, lse, *seeds, 0.0, wanted, is_causal)
    return _efficient_backward(*given, scale=scaling)[:3]


def _aligned(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """The float mask of every head, whose rows begin at multiples of 16 numbers."""
    if mask is None:
        return None
    num_keys = key.shape[2]
    added = F.pad(additive(mask, query.dtype), (0, -num_keys % 16))[..., :num_keys]
    return added.expand(*query.shape[:3], num_keys)


CPU = Kernel(_on_cpu, _back_on_cpu, takes_groups=True)
FLASH = Kernel(_by_flash, _back_by_flash, takes_groups=True)
EFFICIENT = Kernel(_by_efficient, _back_by_efficient, takes_groups=False)
