"""Attention normalizers, fused attention and the audit's attention section.

    python -m bench attention                  everything, some 7 minutes on 2 quiet cores
    python -m bench attention rows fused       only these

Parts: rows (sparsemax and entmax beside the `entmax` package), fused (softmaxes of changed scores
beside PyTorch's attention), section (the audit at the paper's setting), scan (its critical N).
`pip install wideneck[dev]` brings entmax.  The tables are Markdown.

All times are of a forward and a backward pass unless said otherwise, in seconds; "ratio" is the
median over rounds of the time over the reference's in the same round.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from bench.parts import in_turns, ratio, report, run_parts, timed, verdict
from wideneck.attention import build
from wideneck.attention.forward import attention_forward

PARTS = {
    "rows": "attention_rows.rows",
    "fused": "attention.fused",
    "section": "attention_section.section",
    "scan": "attention_section.scan",
}
NUM_HEADS, LENGTH, WIDTH = 12, 1024, 64
LIMIT = 1.15
PLAIN = "F.scaled_dot_product_attention"
LIMITED = ("ssmax", "sink", "softmax1")
OTHERS = ("temperature", "logn", "topk", "entmax15", "sparsemax", "sigmoid", "stickbreaking")

main = partial(run_parts, "attention", PARTS)


def fused(scale: float) -> None:
    """Softmaxes of changed scores in one attention layer, beside PyTorch's plain attention."""
    torch.manual_seed(0)
    shape = (max(1, round(4 * scale)), NUM_HEADS, LENGTH, WIDTH)
    query, key, value = (torch.randn(shape, requires_grad=True) for _ in range(3))
    upstream = torch.randn(shape).transpose(1, 2).contiguous()

    def plain():
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out.transpose(1, 2).contiguous().backward(upstream)

    def dense():
        scores = query @ key.mT * WIDTH**-0.5
        hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        out = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value
        out.transpose(1, 2).contiguous().backward(upstream)

    def under(name):
        module: Any = torch.nn.Module()
        module.normalizer = build(name, num_heads=NUM_HEADS)
        module.is_causal = True

        def run():
            out, _ = attention_forward(module, query, key, value, None)
            out.backward(upstream)

        return run

    runs: dict[str, Callable[[], object]] = {
        PLAIN: plain,
        "dense softmax, as eager": dense,
        **{name: under(name) for name in (*LIMITED, *OTHERS)},
    }
    times = in_turns(runs, {name: 15 if name in (PLAIN, *LIMITED) else 3 for name in runs})
    report(
        f"batch {shape[0]}, {NUM_HEADS} heads, length {LENGTH:,}, d {WIDTH}, causal, float32.",
        ("", "rounds", "min s", "median s", "ratio", "of minima"),
        timed(times, times[PLAIN], digits=4),
        [verdict(f"{n}: time over plain", ratio(times[n], times[PLAIN]), LIMIT) for n in LIMITED],
    )
