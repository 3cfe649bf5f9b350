"""What basis-aware truncation costs of a generated token.

    python -m bench generate [--scale X]

The default model samples with and without `wideneck.BasisAwareTruncation`, in turns in one process;
the time of a token is that of many less that of one.  "ratio" is the median over rounds.  The rows
"1 candidate" and "32 candidates" show what the tests of more tokens cost.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

import wideneck as wn
from bench.memory import TOKENS, seconds_a_token
from bench.parts import in_turns, ratio, report, run_parts, verdict
from wideneck.models import load_language_model

ROUNDS = 7
CUTOFF = 1e-3
PROMPT = "The history of the printing press begins, as most histories do, with a"

main = partial(run_parts, "generate", {"truncation": "generate.truncation"})


def sampled(loaded: Any, processor: Any, count: int) -> Callable[[], None]:
    """Sampling of `count` tokens after the prompt, from one seed."""
    inputs = loaded.tokenizer(PROMPT, return_tensors="pt")
    processors = [] if processor is None else [processor]
    fixed = {"max_new_tokens": count, "pad_token_id": 0, "top_k": 0}

    @torch.no_grad()
    def run() -> None:
        torch.manual_seed(0)
        loaded.model.generate(**inputs, do_sample=True, logits_processor=processors, **fixed)

    return run


def truncation(scale: float) -> None:
    """A sampled token with the processor beside one without."""
    loaded = load_language_model(None)
    loaded.model.generation_config.eos_token_id = None  # all runs are as long as they are told
    rounds = max(2, round(ROUNDS * scale))
    name, own = "without", "c = 32, 16 candidates"
    make = partial(wn.BasisAwareTruncation, loaded.model, epsilon_cutoff=CUTOFF)
    processors = {
        name: None,
        own: make(),
        "32 candidates": make(max_candidates=32),
        "1 candidate": make(max_candidates=1),
    }
    runs = {(n, k): sampled(loaded, p, k) for n, p in processors.items() for k in (1, 1 + TOKENS)}
    times = in_turns(runs, dict.fromkeys(runs, rounds))
    each = {n: seconds_a_token(times[n, 1 + TOKENS], times[n, 1]) for n in processors}
    rows = [
        [
            n,
            str(len(t)),
            f"{1000 * min(t):.2f}",
            f"{1000 * median(t):.2f}",
            f"{ratio(t, each[name]):.3f}",
            f"{min(t) / min(each[name]):.3f}",
        ]
        for n, t in each.items()
    ]
    report(
        f"default model, V 49,152, epsilon {CUTOFF:g}, {TOKENS} tokens sampled, batch 1.",
        ("", "rounds", "min ms a token", "median ms", "ratio", "of minima"),
        rows,
        [verdict("time of a token over that without", ratio(each[own], each[name]), 1.25)],
    )
