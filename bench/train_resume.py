"""What an interruption costs: checkpoints, and how soon a run goes on.

The AWD-LSTM with 15 softmaxes, with AdamW and with averaged SGD, in processes of their own: one
trains a step and writes the checkpoint, the next takes it up.  Then by
the command line: `wideneck train` on a text of the size of WikiText-2 is killed, started again,
and timed until its first new step is in the metrics: with the start of the interpreter, imports,
and the reading of the text.

Memory is that of the process at its peak, above what it held before and holds after.  Reading
counts the pages of the file that are mapped meanwhile, which the system can take back.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.parts import from_child, report, seconds, verdict
from bench.resident import growth, held
from bench.train import BATCH, MODEL, SEGMENT, K, mixture, words
from wideneck.models.small.language_model import language_model
from wideneck.training.batches import Segments, Task
from wideneck.training.folder import CHECKPOINT, METRICS, RunFolder
from wideneck.training.headers import CheckpointHeader
from wideneck.training.loop import Trainer
from wideneck.training.optimizers import SGD, AdamW
from wideneck.training.processes import started
from wideneck.training.recipe import Recipe, Schedule
from wideneck.training.tensor_file import Stored, tensor_sum

SECONDS, SHARE, SUMS = 5.0, 1.0, 0.05
HEADER = ("", "seconds", "memory MB", "of the checkpoint")
WORDS, LINES, TYPES = 2_051_910, 36_718, 33_278
"""The counts of WikiText-2's training text; the validation text here has a tenth of it."""
NUM_TOKENS = 929_589
"""The tokens of PTB's training text."""
OPTIMIZERS = {"adamw": AdamW(), "averaged sgd": SGD(average_from=0.0)}
PATIENCE = 300.0
"""Seconds to wait for a process that should write something."""


def resume(scale: float) -> None:
    rows, verdicts = [], []
    with tempfile.TemporaryDirectory() as name:
        for optimizer in OPTIMIZERS:
            asked = ("train_resume.process", optimizer, words(scale), f"{name}/{optimizer}")
            first, second = (from_child(*asked) for _ in range(2))
            size = first["size"]
            resumed = second["model"] + second["restore"] + second["step"]
            for what, found, spent in (
                (f"write {size / 1e6:,.0f} MB", first, first["save"]),
                ("read them", second, second["restore"]),
            ):
                beyond = found["peak"] - found["kept"]
                cells = [f"{spent:.2f}", f"{beyond / 1e6:,.0f}", f"{beyond / size:.2f}"]
                rows.append([f"{optimizer}: {what}", *cells])
                share = f"{optimizer}, {what}: memory over the size"
                verdicts.append(verdict(share, beyond / size, SHARE))
            sums, others = first["sums"], first["save"] - first["sums"]
            rate = f"{size / sums / 1e9:.1f} GB/s"
            rows.append([f"{optimizer}: of writing, the sums ({rate})", f"{sums:.3f}", "", ""])
            share = f"{optimizer}: sums over the rest of writing"
            verdicts.append(verdict(share, sums / others, SUMS))
            rows.append([f"{optimizer}: model, read, a step", f"{resumed:.2f}", "", ""])
            whole = f"{optimizer}: until a new step is done"
            verdicts.append(verdict(whole, resumed, SECONDS, unit=" s"))
        recipe, out = write_recipe(Path(name), scale), Path(name) / "run"
        killed_after_a_checkpoint(recipe, out)
        again = seconds_to_a_new_step(recipe, out)
        rows.append(["wideneck train, started again", f"{again:.2f}", "", ""])
    report(f"AWD-LSTM with MoS, K = {K}; checkpoints on the disk.", HEADER, rows, verdicts)


def write_recipe(folder: Path, scale: float) -> Path:
    """A text and a recipe for it: a checkpoint and a line of metrics after every step."""
    text = folder / "text"
    text.mkdir()
    numbers = np.random.default_rng(0)
    chances = 1 / (np.arange(TYPES) + 2.7)
    for split, share in (("train", 1.0), ("valid", 0.1)):
        drawn = numbers.choice(TYPES, round(WORDS * share * scale), p=chances / chances.sum())
        lines = np.array_split(drawn.astype(str), round(LINES * share * scale))
        (text / f"{split}.txt").write_text("\n".join(map(" ".join, lines)) + "\n", "utf-8")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f"""
data = {{ text = {str(text)!r}, vocab_size = {words(scale)} }}
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
    _train_until(recipe, out, (out / CHECKPOINT).exists)


def seconds_to_a_new_step(recipe: Path, out: Path) -> float:
    """From the start of the command to the line of the first step that the checkpoint lacks."""
    size = Stored(out / CHECKPOINT).header(CheckpointHeader).standing.metrics_size
    metrics = out / METRICS
    with metrics.open("rb+") as file:
        file.truncate(size)  # as the run would do itself
    return seconds(lambda: _train_until(recipe, out, lambda: metrics.stat().st_size > size))


def _train_until(recipe: Path, out: Path, there: Callable[[], bool]) -> None:
    """The command, killed as soon as what is waited for is there."""
    program = "from wideneck.cli import main; main()"
    command = [sys.executable, "-c", program, "train", str(recipe), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not there():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command} ended with {process.poll()}, or took too long")
                time.sleep(0.01)
        finally:
            process.kill()


class Enough(BaseException):
    """Stops the loop."""


def seconds_of_sums(checkpoint: Path) -> float:
    """What of writing it was their sums: the shortest of three times, from memory as there."""
    tensors = [tensor.clone() for _, tensor in Stored(checkpoint).tensors()]
    return min(seconds(lambda: [tensor_sum(tensor) for tensor in tensors]) for _ in range(3))


def process(optimizer: str, vocab_size: int, place: str) -> dict[str, Any]:
    """One process of a run that is interrupted after its first step, or taken up again.

    The first process in a folder trains a step, writes the checkpoint and ends; the next takes it
    up and ends after a step.  Both say how long things took, imports left out, and how much memory
    the process held at its peak meanwhile (bench/resident.py).
    """
    recipe = Recipe(
        model=MODEL,
        head=mixture(K),
        optimizer=OPTIMIZERS[optimizer],
        training=Schedule(batch_size=BATCH, segment=SEGMENT, varied=False),
    )
    ids = torch.randint(vocab_size, (NUM_TOKENS,))
    accelerator = started()
    before = time.perf_counter()
    folder = RunFolder(Path(place), recipe.to_dict())
    model = language_model(MODEL, mixture(K), vocab_size=vocab_size)
    task = Task(model=model, batches=Segments(ids, recipe.training, 0), valid=[])
    found: dict[str, Any] = {"model": time.perf_counter() - before}
    resumed = folder.checkpoint.exists()
    trainers: list[Trainer] = []  # of one, for the functions inside

    def begin() -> None:
        trainers.append(Trainer(task, recipe, folder, accelerator, show))

    def save() -> None:
        found["peak"], found["kept"] = growth(trainers[0].save), 0

    def show(share: float, loss: float, speed: float) -> None:
        found["step"] = time.perf_counter() - before - found["model"] - found["restore"]
        if not resumed:
            found["save"] = seconds(save)
            found["size"] = folder.checkpoint.stat().st_size
            found["sums"] = seconds_of_sums(folder.checkpoint)
        raise Enough

    own = held()
    found["peak"] = growth(begin)
    found["kept"] = held() - own
    found["restore"] = time.perf_counter() - before - found["model"]
    with suppress(Enough):
        trainers[0].train()
    return found
