"""Runs of tiny models on a tiny text: seconds for dozens of steps."""

import json
from pathlib import Path

from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.training.recipe_file import recipe
from wideneck.training.run import run

TIMES = ("seconds", "tokens_per_second")
"""What two runs of the same recipe may differ in."""

AWD = {
    "model": {
        "name": "awd_lstm",
        "embedding_size": 8,
        "hidden_size": 12,
        "num_layers": 2,
        "input_dropout": 0.2,
        "hidden_dropout": 0.2,
        "weight_dropout": 0.3,
    },
    "head": {"name": "moss", "num_components": 2, "dropout": 0.2},
    "optimizer": {"name": "sgd", "learning_rate": 2.0, "average_from": 1.0},
    "training": {"epochs": 2, "batch_size": 4, "segment": 10, "evaluate_every": 0.5},
}
GPT2 = {
    "model": {
        "name": "transformer",
        "architecture": "gpt2",
        "context": 16,
        "options": {"n_embd": 16, "n_layer": 1, "n_head": 2, "resid_pdrop": 0.1},
    },
    "head": {"name": "sigsoftmax", "learned": True},
    "optimizer": {"name": "adamw", "learning_rate": 1e-2, "warmup": 0.2},
    "training": {"epochs": 3, "batch_size": 4, "evaluate_every": 0.5},
}
STATES = {
    "model": {"name": "states", "train_tokens": 512, "valid_tokens": 64, "window": 32},
    "head": {"name": "mos", "num_components": 2, "projection": "residual", "dropout": 0.1},
    "optimizer": {"name": "adamw", "learning_rate": 1e-2},
    "training": {"epochs": 2, "batch_size": 32, "evaluate_every": 0.4, "log_every": 3},
}


class Killed(BaseException):
    """In place of SIGKILL, between two steps."""


def text(folder: Path) -> str:
    """Six documents of about 150 words each."""
    return str(write_text(folder / "bottles.txt"))


def frozen_model(folder: Path) -> str:
    """A GPT-2 with its tokenizer, as `STATES` may name it."""
    tiny_model("gpt2").save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return str(folder)


def changed(content, **tables):
    """A recipe's dictionary with other values in some of its tables, or other top-level values."""
    new = dict(content)
    for name, value in tables.items():
        new[name] = {**content.get(name, {}), **value} if isinstance(value, dict) else value
    return new


def trained(content, out, *, kill_after=None, **options):
    """Run to the end, or until so many steps are done in this call."""
    steps = 0

    def show(share, loss, speed):
        nonlocal steps
        steps += 1
        if steps == kill_after:
            raise Killed

    return run(recipe(content), out, show=show, **options)


def metrics(out):
    """Its lines, without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def same_run(ours, theirs):
    """Whether two folders hold the same weights, to the last bit, and the same metrics."""
    files = [(out / "model.safetensors").read_bytes() for out in (ours, theirs)]
    return files[0] == files[1] and metrics(ours) == metrics(theirs)
