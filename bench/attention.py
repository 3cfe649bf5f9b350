"""Attention normalizers, fused attention and the audit's attention section.

    python -m bench attention                  everything, some 7 minutes on 2 quiet cores
    python -m bench attention rows fused       only these

Parts: rows (sparsemax and entmax beside the `entmax` package), fused (softmaxes of changed scores
beside PyTorch's attention), section (the audit at the paper's setting), scan (its critical N),
memory (of a dense layer at length 8,192).
`pip install wideneck[dev]` brings entmax.  The tables are Markdown.

All times are of a forward and a backward pass unless said otherwise, in seconds; "ratio" is the
median over rounds of the time over the reference's in the same round.
"""

import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import transformers

from bench.parts import in_turns, ratio, report, run_parts, timed, verdict
from wideneck.attention import build
from wideneck.attention.forward import attention_forward
from wideneck.audits.attention.reading import Reader
from wideneck.audits.attention.section import audit_attention
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.data import Windows
from wideneck.models import LogitMap, read_head

PARTS = {
    "rows": "attention_rows.rows",
    "fused": "attention.fused",
    "section": "attention.section",
    "scan": "attention.scan",
    "memory": "attention_memory.memory",
}
CONTEXT, VOCAB, LARGEST = 1024, 50_257, 100
"""Sizes of the section, and the largest N of the scan."""
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


def section(scale: float) -> None:
    """The audit at the paper's setting: 144 heads, length 1,024, every query."""
    audit, settings, seconds, clock = _audited(scale)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    rows = [[step, f"{spent:.1f}"] for step, spent in clock.seconds.items()]
    rows += [["all", f"{seconds:.1f}"], ["peak of the process, GB, model included", f"{peak:.2f}"]]
    report(
        f"{audit.num_layers * audit.num_heads} heads, length {settings.context:,}, "
        f"{audit.num_queries:,} queries, N in {settings.sizes}; the paper's machine took "
        "24 + 37 + 7 + 1 minutes.",
        ("", "seconds"),
        rows,
        [
            verdict("minutes", seconds / 60, 6),
            verdict("peak", peak, 3, unit=" GB"),
        ],
    )


def scan(scale: float) -> None:
    """The scan for the critical N."""
    audit, settings, seconds, _ = _audited(scale, critical_up_to=LARGEST, ablation_context=0)
    rows = [
        [point.expectation, "none" if point.size is None else str(point.size)]
        for point in audit.critical
    ]
    report(
        f"{audit.num_layers * audit.num_heads} heads, length {settings.context:,}, N = 1 to "
        f"{LARGEST}, all three expectations, with the section; random weights, so the N found says "
        "nothing.",
        ("expectation", "critical N"),
        rows,
        [verdict("minutes", seconds / 60, 30)],
    )


def _audited(scale: float, **changes: Any):
    """The section on one window of random tokens, its settings, seconds and clock.

    A model of GPT-2's shape with random weights: its cost does not depend on their values.
    """
    context = round(CONTEXT * min(1.0, max(0.15, scale)))
    settings = AttentionSettings(context=context, num_windows=1, num_queries=None, **changes)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=VOCAB)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(VOCAB, (1, context + 1))
    windows = Windows(
        ids=ids[:, :-1],
        targets=ids[:, 1:],
        document=torch.zeros(1, dtype=torch.long),
        num_bytes=torch.ones(1, dtype=torch.long),
    )
    clock, begin = Clock(), time.perf_counter()
    audit = audit_attention(
        Reader(model, LogitMap("identity"), read_head(model)), windows, settings, clock
    )
    return audit, settings, time.perf_counter() - begin, clock
