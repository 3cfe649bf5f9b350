"""What one dense attention layer takes at length 8,192: by blocks of queries, and at once.

python -m bench attention memory
"""

import resource
from typing import Any

import torch

from bench.parts import from_child, report, verdict
from wideneck.attention.call import Call
from wideneck.attention.config import normalizer_config
from wideneck.attention.dense import dense_attention, formed_attention

LENGTH, NUM_HEADS, WIDTH = 8192, 2, 64
NAMES = ("entmax15", "sigmoid")
LIMIT = 256
"""MB beyond the inputs, far below the 537 of one matrix of scores."""


def memory(scale: float) -> None:
    """Peak beyond the process before the layer, forward and backward; a process for each."""
    length = max(128, round(LENGTH * scale))
    rows, verdicts = [], []
    for name in NAMES:
        blocks, at_once = (from_child("attention_memory.peak", how, name, length) for how in (0, 1))
        rows.append([name, f"{blocks:,.0f}", f"{at_once:,.0f}"])
        verdicts.append(verdict(f"{name}: by blocks", blocks, LIMIT, unit=" MB"))
    scores = NUM_HEADS * length**2 * 4 / 1e6
    report(
        f"batch 1, {NUM_HEADS} heads, length {length:,}, d {WIDTH}, causal, float32; one matrix of "
        f"scores has {scores:,.0f} MB. Forward and backward pass, MB at the peak beyond the input.",
        ("", "by blocks of queries", "all scores at once"),
        rows,
        verdicts,
    )


def peak(at_once: int, name: str, length: int) -> float:
    """MB."""
    torch.manual_seed(0)
    shape = (1, NUM_HEADS, length, WIDTH)
    query, key, value = (torch.randn(shape, requires_grad=True) for _ in range(3))
    options: dict[str, Any] = {"mask": None, "softcap": None, "dropout": 0.0}
    call = Call(query=query, key=key, value=value, causal=True, scaling=WIDTH**-0.5, **options)
    config = normalizer_config(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = formed_attention(call, config)[0] if at_once else dense_attention(call, config)
    out.sum().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6
