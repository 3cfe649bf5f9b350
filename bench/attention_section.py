"""The audit's attention section at the paper's setting: 144 heads, length 1,024, every query.

A model of GPT-2's shape with random weights: its cost does not depend on their values.
"""

import resource
import time
from typing import Any

import torch
import transformers

from bench.parts import report, verdict
from wideneck.audits.attention.reading import Reader
from wideneck.audits.attention.section import audit_attention
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.data import Windows
from wideneck.models import LogitMap

CONTEXT, VOCAB = 1024, 50_257
LARGEST = 100
"""N of the scan."""


def section(scale: float) -> None:
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
    """The section on one window of random tokens, its settings, seconds and clock."""
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
    audit = audit_attention(Reader(model, LogitMap("identity")), windows, settings, clock)
    return audit, settings, time.perf_counter() - begin, clock
