"""Softmaxes of changed scores in one attention layer, beside PyTorch's plain attention.

python -m bench.attention_fused SCALE        JSON on standard output
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from bench.parts import in_turns, ratio, report, start, verdict
from wideneck.attention import build
from wideneck.attention.forward import attention_forward

NUM_HEADS, LENGTH, WIDTH, ROUNDS = 12, 1024, 64, 15
LIMIT = 1.15
LIMITED = ("ssmax", "sink", "softmax1")
OTHERS = ("temperature", "logn", "topk", "entmax15", "sparsemax", "sigmoid", "stickbreaking")


def main() -> None:
    scale = start()
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
        "F.scaled_dot_product_attention": plain,
        "dense softmax, as eager": dense,
        **{name: under(name) for name in (*LIMITED, *OTHERS)},
    }
    rounds = {name: ROUNDS if name in (*LIMITED, *list(runs)[:1]) else 3 for name in runs}
    times = in_turns(runs, rounds)
    reference = times["F.scaled_dot_product_attention"]
    rows = [
        [
            name,
            str(len(t)),
            f"{min(t):.4f}",
            f"{median(t):.4f}",
            f"{ratio(t, reference):.2f}",
            f"{min(t) / min(reference):.2f}",
        ]
        for name, t in times.items()
    ]
    report(
        f"batch {shape[0]}, {NUM_HEADS} heads, length {LENGTH:,}, d {WIDTH}, causal, float32.",
        ("", "rounds", "min s", "median s", "ratio", "of minima"),
        rows,
        [verdict(f"{n}: time over plain", ratio(times[n], reference), LIMIT) for n in LIMITED],
    )


if __name__ == "__main__":
    main()
