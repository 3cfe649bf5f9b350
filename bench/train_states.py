"""Training a head alone on cached states beside the floor of its three matrix products.

python -m bench.train_states SCALE        JSON on standard output

Whole steps of `wideneck.training.loop.Trainer`: rows gathered from a memory-mapped file, loss,
backward pass, clipping, AdamW.  The sizes are those of the default model; the states are random
numbers, in files such as `wideneck.training.state_cache` writes.  The floor of as many rows runs
after every step.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from bench.floor import fastest, seconds
from bench.parts import in_turns, ratio, report, start, verdict
from bench.train_case import HEADER, timed
from wideneck import heads
from wideneck.config import Softmax
from wideneck.models.small.config import States
from wideneck.training.batches import Rows
from wideneck.training.folder import RunFolder
from wideneck.training.in_order import rows_in_order
from wideneck.training.loop import Trainer
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe
from wideneck.training.schedule import Schedule
from wideneck.training.states_task import HeadAlone
from wideneck.training.task import Task

VOCAB_SIZE, WIDTH, NUM_STATES = 49_152, 576, 32_768
BATCHES, JUDGED, ROUNDS = (1024, 2048, 4096), 2048, 5
LIMIT = 1.25


def cache(folder: Path, vocab_size: int) -> tuple[Tensor, Tensor]:
    """States (N, D) and targets (N,), memory-mapped."""
    numbers = np.random.default_rng(0)
    np.save(folder / "hidden.npy", numbers.standard_normal((NUM_STATES, WIDTH), dtype=np.float32))
    np.save(folder / "target.npy", numbers.integers(vocab_size, size=NUM_STATES))
    files = (folder / "hidden.npy", folder / "target.npy")
    hidden, target = (torch.from_numpy(np.load(file, mmap_mode="c")) for file in files)
    return hidden, target


@final
class Turns:
    """Seconds of the loop's steps, and of the floor after each.

    The loop tells `show` when a step is done and waits for it, so the two take turns.
    """

    def __init__(self, floor: Callable[[], object]):
        self.floor = floor
        self.times: dict[str, list[float]] = {"floor": [], "step": []}
        self.started: float | None = None

    def show(self, share: float, loss: float, speed: float) -> None:
        now = time.perf_counter()
        if self.started is not None:  # the first step warms up
            self.times["step"].append(now - self.started)
            self.times["floor"].append(seconds(self.floor))
        self.started = time.perf_counter()


def trained(
    states: tuple[Tensor, Tensor], vocab_size: int, batch_size: int, folder: Path
) -> tuple[Turns, Trainer]:
    """Some steps of a run."""
    torch.manual_seed(0)
    hidden, target = states
    head = heads.build("softmax", hidden_size=WIDTH, vocab_size=vocab_size)
    steps = ROUNDS + 1
    schedule = Schedule(
        epochs=steps * batch_size / (len(target) // batch_size * batch_size),
        batch_size=batch_size,
        evaluation_tokens=64,
        checkpoint_every=3600.0,
    )
    recipe = Recipe(model=States(), head=Softmax(), optimizer=AdamW(), training=schedule)
    task = Task(
        model=HeadAlone(head),
        batches=Rows(hidden, target, schedule, recipe.seed),
        valid=rows_in_order(hidden, target, schedule),
    )
    turns = Turns(fastest(hidden[:batch_size], head.weight))
    place = RunFolder(folder / f"batches-of-{batch_size}", recipe.to_dict())
    trainer = Trainer(task, recipe, place, Accelerator(), turns.show)
    trainer.train()
    place.close()
    return turns, trainer


def pieces(trainer: Trainer, floor: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of what a step consists of."""
    order, parameters = trainer.task.batches.order(0), list(trainer.plain.parameters())

    def loss() -> None:
        trainer.optimizer.zero_grad()
        batch = order.batch(0)
        trainer.model(batch.input, batch.target, []).nll.backward()

    runs = {
        "floor": floor,
        "rows from the file": lambda: order.batch(1),
        "loss and gradients": loss,
        "clipping": lambda: trainer.accelerator.clip_grad_norm_(parameters, 1.0),
        "AdamW": trainer.optimizer.step,
    }
    return in_turns(runs, dict.fromkeys(runs, ROUNDS))


def main() -> None:
    scale = start()
    vocab_size = max(64, round(VOCAB_SIZE * scale))
    rows, found = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        states = cache(Path(folder), vocab_size)
        for batch_size in BATCHES:
            turns, trainer = trained(states, vocab_size, batch_size, Path(folder))
            names = {"floor": f"floor, {batch_size:,} rows", "step": f"step, {batch_size:,} rows"}
            times = {names[name]: own for name, own in turns.times.items()}
            rows += timed(times, names["floor"])
            if batch_size == JUDGED:
                found = ratio(turns.times["step"], turns.times["floor"])
                own = pieces(trainer, turns.floor)
                rows += [["of it: " + row[0], *row[1:]] for row in timed(own, "floor")[1:]]
    report(
        f"steps of a softmax head on states in a file, D {WIDTH}, V {vocab_size:,}.",
        HEADER,
        rows,
        [verdict(f"a step of {JUDGED:,} rows over the floor", found, LIMIT)],
    )


if __name__ == "__main__":
    main()
