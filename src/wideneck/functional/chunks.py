"""How many tokens have their scores in memory at a time."""

import math

import torch
from torch import Tensor

from wideneck.functional.products import ACCELERATORS
from wideneck.functional.shard import Shard

CHUNK_ROWS = 1024
"""Rows of a chunk at most on a CPU: products are slower with many fewer, no faster with more."""
CHUNK_SCORES = 2**26
"""Scores of a chunk at most on a CPU (256 MiB in float32), down to 256 rows."""
ACCELERATOR_ROWS = 4096
"""Rows where starting kernels takes time.  A step of an AWD-LSTM with 15 softmaxes on an H100,
V = 10,000: 23 to 37 ms with 1024 rows, 20 with 4096, 19 with 8192, and 20 with the plain loss."""
BYTES = 6
"""A score and its gradient: float32 and bfloat16."""
SHARE = 24
"""A chunk takes this part of a device's memory at most: of all that it has, not of what happens to
be free, so that equal runs cut alike and give equal bits."""
MOST_SCORES = 2**31
"""Kernels count in 32 bits."""
TILE = 128
"""Rows that the tiles of an accelerator's products share."""
UNKNOWN = 2**34
"""Bytes that a device is taken to have which does not tell."""


def memory_of(device: torch.device) -> int:
    """Bytes of all memory of an accelerator."""
    if device.type not in ACCELERATORS:
        return UNKNOWN
    return getattr(torch, device.type).get_device_properties(device).total_memory


def chunk_tokens(X: Tensor, W: Tensor, number: int, shard: Shard, chunk_size: int | None) -> int:
    """Tokens of a chunk, at most; the last one may have fewer.

    Args:
        X: (N, K, D).
        W: (V, D), or this process's rows of it.
        number: how many tokens count.
        shard: processes that share a vocabulary cut alike, by the largest part of it.
        chunk_size: what the caller asks for; None chooses.
    """
    K, V = X.shape[1], len(W) if shard.is_whole else shard.largest
    step = 1
    if chunk_size is not None:
        most = chunk_size
    elif X.device.type == "cpu":
        most = min(CHUNK_ROWS, max(256, CHUNK_SCORES // V)) // K
    else:
        memory = shard.memory or memory_of(X.device)
        rows = min(ACCELERATOR_ROWS, memory // (SHARE * BYTES * V), (MOST_SCORES - 1) // V)
        most = max(rows, 1) // K
        step = TILE // math.gcd(TILE, K)
        if most >= step:
            most -= most % step
    most = max(1, most)
    num_chunks = max(1, -(-number // most))
    # Even chunks: a short last one is a slow product.
    size = max(1, -(-number // num_chunks))
    return size if num_chunks == 1 or most < step else -(-size // step) * step
