"""Entmax of a fixed alpha in the kernels of adasplash, which form no score twice.

Goncalves et al. 2025 (arXiv:2502.12082); the package is BSD-licensed and needs a GPU.  Its second
version takes causal calls at alpha 1.5, heads that share keys among them; the first any alpha up
to 2.  Both scale scores by 1 / sqrt(D), so ours is folded into the query.
"""

import importlib
import math
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.attention.call import Call, every_head, num_visible
from wideneck.attention.normalizer import Normalizer

WIDTHS = (16, 32, 64, 128, 256)
"""Of query, key and value, which are equal."""
ITERATIONS = 10
"""Of the search for a threshold, as many as in adasplash's own tests."""


def is_there() -> bool:
    """Whether the package is installed in a version that has both kernels."""
    try:
        found = version("adasplash")
    except PackageNotFoundError:
        return False
    return tuple(int(part) for part in re.findall(r"\d+", found)[:2]) >= (0, 2)


def splash_attention(call: Call, config: Normalizer) -> Tensor:
    """(B, H, Q, Dv) of a call without a mask and of Q = K."""
    adasplash: Any = importlib.import_module("adasplash")
    length, width = call.query.shape[2:]
    factor: Any = config.factor(num_visible(call)) * (call.scaling * math.sqrt(width))
    query = (call.query * factor).to(call.query.dtype)
    alpha = float(getattr(config, "alpha"))  # noqa: B009  of an entmax, as the route has checked
    size = 1 << max(6, (length - 1).bit_length())  # a power of two, 64 or more

    def padded(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, size - length)).contiguous()

    # Keys of padding come after every query of a causal call; of the others their number is told.
    varlen = None
    if not call.causal and size > length:
        varlen = torch.full((len(query),), length, dtype=torch.int32, device=query.device)
    if call.causal and alpha == 1.5:
        given = (padded(query), padded(call.key), padded(call.value))
        out = adasplash.adasplash_v2(*given, niter=ITERATIONS)
    else:
        key, value = every_head(call)
        out = adasplash.adasplash_v1(
            padded(query),
            padded(key),
            padded(value),
            alpha=alpha,
            is_causal=call.causal,
            varlen=varlen,
            niter=ITERATIONS,
        )
    return out[:, :, :length]
