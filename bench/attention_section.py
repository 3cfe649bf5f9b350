"""The audit's attention section at the paper's setting: 144 heads, length 1,024, every query.

python -m bench.attention_section SCALE        JSON on standard output

A model of GPT-2's shape with random weights: its cost does not depend on their values.
"""

import resource
import time

import torch
import transformers

from bench.parts import report, start, verdict
from wideneck.audits.attention.reading import Reader
from wideneck.audits.attention.section import audit_attention
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.data import Windows
from wideneck.models import LogitMap

CONTEXT, VOCAB = 1024, 50_257


def main() -> None:
    context = round(CONTEXT * min(1.0, max(0.15, start())))
    settings = AttentionSettings(context=context, num_windows=1, num_queries=None)
    audit, seconds, clock = run(settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    rows = [[step, f"{spent:.1f}"] for step, spent in clock.seconds.items()]
    rows += [["all", f"{seconds:.1f}"], ["peak of the process, GB, model included", f"{peak:.2f}"]]
    report(
        f"{audit.num_layers * audit.num_heads} heads, length {context:,}, {audit.num_queries:,} "
        f"queries, N in {settings.sizes}; the paper's machine took 24 + 37 + 7 + 1 minutes.",
        ("", "seconds"),
        rows,
        [
            verdict("minutes", seconds / 60, 6),
            verdict("peak", peak, 3, unit=" GB"),
        ],
    )


def run(settings: AttentionSettings):
    """The section on one window of random tokens, with its seconds."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=VOCAB)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(VOCAB, (1, settings.context + 1))
    windows = Windows(
        ids=ids[:, :-1],
        targets=ids[:, 1:],
        document=torch.zeros(1, dtype=torch.long),
        num_bytes=torch.ones(1, dtype=torch.long),
    )
    clock, begin = Clock(), time.perf_counter()
    audit = audit_attention(Reader(model, LogitMap("identity")), windows, settings, clock)
    return audit, time.perf_counter() - begin, clock


if __name__ == "__main__":
    main()
