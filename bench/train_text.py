"""`wideneck train` on a text of the size of WikiText-2, killed and started again."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.train_case import BATCH, MODEL, SEGMENT, VOCAB_SIZE
from bench.train_restart import K
from wideneck.training.folder import CHECKPOINT, METRICS
from wideneck.training.headers import CheckpointHeader
from wideneck.training.tensor_file import Stored

WORDS, LINES, TYPES = 2_051_910, 36_718, 33_278
"""Of the training text of WikiText-2; the validation text here has a tenth of it."""
PATIENCE = 300.0
"""Seconds to wait for a process that should write something."""


def write_recipe(folder: Path, scale: float) -> Path:
    """A text and a recipe for it: a checkpoint and a line of metrics after every step."""
    text = folder / "text"
    text.mkdir()
    numbers = np.random.default_rng(0)
    chances = 1 / (np.arange(TYPES) + 2.7)
    for split, share in (("train", 1.0), ("valid", 0.1)):
        words = numbers.choice(TYPES, round(WORDS * share * scale), p=chances / chances.sum())
        lines = np.array_split(words.astype(str), round(LINES * share * scale))
        (text / f"{split}.txt").write_text("\n".join(map(" ".join, lines)) + "\n", "utf-8")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f"""
data = {{ text = {str(text)!r}, vocab_size = {max(64, round(VOCAB_SIZE * scale))} }}
optimizer = {{ name = "adamw" }}
training = {{ batch_size = {BATCH}, segment = {SEGMENT}, log_every = 1, checkpoint_every = 0.0 }}
head = {{ name = "mos", num_components = {K} }}
[model]
name = "awd_lstm"
embedding_size = {MODEL.embedding_size}
hidden_size = {MODEL.hidden_size}
last_size = {MODEL.last_size}
""",
        "utf-8",
    )
    return recipe


def killed_after_a_checkpoint(recipe: Path, out: Path) -> None:
    """A run that came as far as its first checkpoint."""
    process = _start(recipe, out)
    try:
        _wait(process, lambda: (out / CHECKPOINT).exists())
    finally:
        process.kill()
        process.wait()


def seconds_to_a_new_step(recipe: Path, out: Path) -> float:
    """From the start of the command to the line of the first step that the checkpoint lacks."""
    size = Stored(out / CHECKPOINT).header(CheckpointHeader).standing.metrics_size
    metrics = out / METRICS
    with metrics.open("rb+") as file:
        file.truncate(size)  # as the run would do itself
    start = time.perf_counter()
    process = _start(recipe, out)
    try:
        _wait(process, lambda: metrics.stat().st_size > size)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()


def _start(recipe: Path, out: Path) -> subprocess.Popen:
    program = "from wideneck.cli import main; main()"
    command = [sys.executable, "-c", program, "train", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait(process: subprocess.Popen, there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} ended with {process.poll()}, or took too long")
        time.sleep(0.01)
