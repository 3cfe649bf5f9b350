"""Training a head alone on cached states beside the floor of its matrix products.

python -m bench.train_states SCALE        JSON on standard output

Whole steps of `wideneck.training.loop.Trainer`: rows gathered from a memory-mapped file, loss,
backward pass, clipping, AdamW.  The sizes are those of the default model; the states are random
numbers, in files such as `wideneck.training.state_cache` writes.  They need no gradient, so the
floor is two products, scores and dW.  That of as many rows runs after every step, in the best chunk
of either layout; the faster is the round's.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from bench.floor import LAYOUTS, fastest, seconds
from bench.parts import in_turns, ratio, report, start, verdict
from bench.train_case import HEADER, lowest, timed
from wideneck import heads
from wideneck.config import Softmax
from wideneck.models.small.config import States
from wideneck.training.batches import Rows, Task, rows_in_order
from wideneck.training.folder import RunFolder
from wideneck.training.loop import Trainer
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe, Schedule
from wideneck.training.states_task import HeadAlone

VOCAB_SIZE, WIDTH, NUM_STATES = 49_152, 576, 32_768
BATCHES, JUDGED, ROUNDS = (1024, 2048), 2048, 6
LIMIT = 1.25
STEP = "a step"


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
    """Seconds of the loop's steps, and of the floors after each.

    The loop tells `show` when a step is done and waits for it, so they take turns.
    """

    def __init__(self, floors: Mapping[str, Callable[[], object]]):
        self.floors = floors
        self.times: dict[str, list[float]] = {name: [] for name in (*floors, STEP)}
        self.started: float | None = None

    def show(self, share: float, loss: float, speed: float) -> None:
        now = time.perf_counter()
        last, self.started = self.started, None
        for name, floor in self.floors.items():
            taken = seconds(floor)
            if last is not None:  # the first round warms up
                self.times[name].append(taken)
        if last is not None:
            self.times[STEP].append(now - last)
        self.started = time.perf_counter()

    @property
    def floor(self) -> list[float]:
        """The lowest of every round."""
        return lowest({name: self.times[name] for name in self.floors})


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
    some = hidden[:batch_size]
    floors = [fastest(some, head.weight, [layout], fixed=True) for layout in LAYOUTS]
    turns = Turns({f"floor, {floor}": floor for floor in floors})
    place = RunFolder(folder / f"batches-of-{batch_size}", recipe.to_dict())
    trainer = Trainer(task, recipe, place, Accelerator(), turns.show)
    trainer.train()
    place.close()
    return turns, trainer


def pieces(trainer: Trainer, floors: Mapping[str, Callable[[], object]]) -> list[list[str]]:
    """Rows of the table for what a step consists of."""
    order, parameters = trainer.task.batches.order(0), list(trainer.plain.parameters())

    def loss() -> None:
        trainer.optimizer.zero_grad()
        batch = order.batch(0)
        trainer.model(batch.input, batch.target, []).nll.backward()

    parts = {
        "of it: rows from the file": lambda: order.batch(1),
        "of it: loss and gradients": loss,
        "of it: clipping": lambda: trainer.accelerator.clip_grad_norm_(parameters, 1.0),
        "of it: AdamW": trainer.optimizer.step,
    }
    runs = {**floors, **parts}
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    floor = lowest({name: times[name] for name in floors})
    return timed({name: times[name] for name in parts}, floor)


def main() -> None:
    scale = start()
    vocab_size = max(64, round(VOCAB_SIZE * scale))
    rows, found = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        states = cache(Path(folder), vocab_size)
        for batch_size in BATCHES:
            turns, trainer = trained(states, vocab_size, batch_size, Path(folder))
            own = timed(turns.times, turns.floor)
            rows += [[f"{batch_size:,} rows: {row[0]}", *row[1:]] for row in own]
            if batch_size == JUDGED:
                found = ratio(turns.times[STEP], turns.floor)
                rows += pieces(trainer, turns.floors)
    report(
        f"steps of a softmax head on states in a file, D {WIDTH}, V {vocab_size:,}.",
        HEADER,
        rows,
        [verdict(f"a step of {JUDGED:,} rows over the floor", found, LIMIT)],
    )


if __name__ == "__main__":
    main()
