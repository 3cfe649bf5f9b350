"""What watching costs, and a run in which it shows what the loss does not show yet.

`watch`: a model of the size of SmolLM2-135M, 4 rows of 512 tokens, AdamW.  A step without Watch,
and steps in which one group of quantities is due; each look counts once in its period.

`instability`: a small model at a rate and at 30 times that rate, both rising over nine tenths of
the run, as `wideneck train` runs a recipe with a [watch] table; figures of docs/watch.md.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers as tr

import wideneck as wn
from bench.figure import write_figure
from bench.parts import report, verdict
from wideneck.report.axes import linear
from wideneck.report.numbers import TIMES as TIMES_SIGN
from wideneck.report.svg import Chart, Line, Rule
from wideneck.training.recipe_file import recipe
from wideneck.training.run import run
from wideneck.watching.lines import read_lines
from wideneck.watching.pace import Pace

ROWS, LENGTH, ROUNDS, LIMIT = 4, 512, 2, 1.01
DOCS = Path(__file__).parents[1] / "docs"
RATE, TIMES = 1e-2, 30


def default_sized(scale: float) -> Any:
    """Llama, with the sizes of SmolLM2-135M and random weights."""
    config = tr.LlamaConfig(
        vocab_size=max(256, round(49_152 * scale)),
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=max(1, round(30 * scale)),
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return tr.LlamaForCausalLM(config).train()


def watch(scale: float) -> None:
    torch.manual_seed(0)
    model = wn.attach(default_sized(scale), "softmax")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(model.config.vocab_size, (ROWS, max(16, round(LENGTH * scale))))
    watched = wn.Watch(model, limit=None)
    asked, seconds, costs = dict(watched.pace.periods), [], {}
    # Never due by itself: each round asks for one group at a time.
    far = dict.fromkeys(asked, 10**9)
    step = 1
    for one in [None, *[group for _ in range(ROUNDS) for group in (None, *asked)]]:
        step += 1
        watched.pace = Pace(far if one is None else {**far, one: 1}, None)
        watched.follow(model, step - 1)
        started = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        watched.step(step)
        optimizer.step()
        optimizer.zero_grad()
        if one is None:
            seconds.append(time.perf_counter() - started)
        else:
            costs.setdefault(one, []).append(watched.pace.costs[one])
    alone = median(seconds[1:])  # the first warms up
    shares = {group: median(costs[group]) / period / alone for group, period in asked.items()}
    rows = [["a step without", f"{alone:.2f}", "", ""]]
    for group, period in asked.items():
        rows.append([group, f"{median(costs[group]):.3f}", f"{period}", f"{shares[group]:.2%}"])
    tokens = ids.numel()
    report(
        f"Watch on {sum(p.numel() for p in model.parameters()):,} parameters, V "
        f"{model.config.vocab_size:,}, {tokens:,} tokens a step.",
        ("", "seconds", "every steps", "of a step"),
        rows,
        [verdict("times a step without", 1 + sum(shares.values()), LIMIT)],
    )


def content(times: int) -> dict[str, Any]:
    """The recipe at so many times the rate."""
    return {
        "data": {"vocab_size": 4000},
        "model": {
            "name": "transformer",
            "architecture": "llama",
            "context": 64,
            "tied": False,
            "options": {
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
            },
        },
        "optimizer": {"name": "adamw", "learning_rate": RATE * times, "warmup": 0.9},
        "training": {
            "epochs": 3,
            "batch_size": 16,
            "evaluate_every": 1.0,
            "evaluation_tokens": 4096,
            "log_every": 5,
        },
        "watch": {"scores_every": 5, "weights_every": 5, "spectra_every": 5, "limit": 0.0},
    }


def instability(scale: float) -> None:
    del scale  # it takes a minute or two as it is
    with tempfile.TemporaryDirectory() as name:
        files = {}
        for times in (1, TIMES):
            out = Path(name) / f"times-{times}"
            run(recipe(content(times)), out, show=lambda share, loss, speed: None)
            files[times] = out / "metrics.jsonl"
        figures(files)


PANELS = {
    "loss": ("Loss", "nats a token", "loss"),
    "states": ("Effective rank of the states", "exp of the entropy of s", "effective_rank"),
    "norm": ("Length of the states", "root mean square of ‖h‖", "state_norm"),
    "row": ("Mean row", "share of ‖W‖²", "mean_row_share"),
}


def figures(files: dict[int, Path]) -> None:
    """docs/watch-*.svg of two runs, and the table of the page."""
    steps = {times: read_lines(path) for times, path in files.items()}
    losses = [(s.step, s.loss) for s in steps[TIMES] if s.loss is not None]
    lowest, turns = min((loss, step) for step, loss in losses)
    for file, (title, label, quantity) in PANELS.items():
        lines = []
        for times, color in ((1, "c-centred"), (TIMES, "c-raw")):
            known = [(s.step, getattr(s, quantity)) for s in steps[times]]
            known = [(at, value) for at, value in known if value is not None]
            lines.append(
                Line(f"{TIMES_SIGN} {times}", color, [x for x, _ in known], [y for _, y in known])
            )
        values = [value for line in lines for value in line.y]
        x = linear("training step", [1.0, float(losses[-1][0])], low=1.0)
        rules = [Rule("lowest loss", float(turns), vertical=True)]
        described = f"{title} along two runs, one at {TIMES} times the rate of the other."
        write_figure(
            DOCS / f"watch-{file}.svg",
            Chart(title, described, x, linear(label, values), lines, rules),
        )
    rows = []
    for times, found in steps.items():
        for at in (1, 10, 30, turns, 90):
            here = {s.step: s for s in found}[at]
            loss = dict((s.step, s.loss) for s in found).get(at)
            cells = [loss, here.effective_rank, here.state_norm, here.mean_row_share]
            rows.append(
                [
                    f"{TIMES_SIGN} {times}",
                    f"{at}",
                    *("" if c is None else f"{c:.3g}" for c in cells),
                ]
            )
    report(
        f"two runs of 594,240 parameters; at {TIMES} times the rate the lowest loss is at "
        f"step {turns}, {lowest:.2f} nats.",
        ("rate", "step", "loss", "rank of the states", "their length", "mean row"),
        rows,
        [],
    )
