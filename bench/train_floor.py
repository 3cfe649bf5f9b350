"""Heads in training beside the floor of their matrix products (bench/floor.py).

Each product is in the layout and the chunk that are fastest today.  Of the output matrix both
layouts run in every round, and the faster is the round's floor.
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

from bench.floor import LAYOUTS, fastest
from bench.parts import in_turns, ratio, report, seconds, timed, verdict
from bench.train import BATCH, HEADER, MODEL, SEGMENT, lowest, mixture, segment, words
from wideneck import heads
from wideneck.config import Mixture, Sigsoftmax, Softmax
from wideneck.heads.mixture import MixtureHead
from wideneck.models.small.config import States
from wideneck.training.batches import Rows, Task, rows_in_order
from wideneck.training.folder import RunFolder
from wideneck.training.loop import Trainer
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe, Schedule
from wideneck.training.states_task import HeadAlone

VOCAB_SIZE, WIDTH, NUM_STATES = 49_152, 576, 32_768
BATCHES, JUDGED, STEPS = (1024, 2048), 2048, 6
STEP = "a step"
K, ROUNDS = 10, 11
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
        return lowest(self.times, self.floors)


def trained(
    states: tuple[Tensor, Tensor], vocab_size: int, batch_size: int, folder: Path
) -> tuple[Turns, Trainer]:
    """Some steps of a run."""
    torch.manual_seed(0)
    hidden, target = states
    head = heads.build("softmax", hidden_size=WIDTH, vocab_size=vocab_size)
    steps = STEPS + 1
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
    times = in_turns(runs, dict.fromkeys(runs, STEPS))
    floor = lowest(times, floors)
    return timed({name: times[name] for name in parts}, floor)


def states(scale: float) -> None:
    """Training a head alone on cached states.

    Whole steps of `wideneck.training.loop.Trainer`: rows gathered from a memory-mapped file, loss,
    backward pass, clipping, AdamW.  The sizes are those of the default model; the states are random
    numbers, in files such as `wideneck.training.state_cache` writes.  They need no gradient, so the
    floor is two products, scores and dW.  That of as many rows runs after every step.
    """
    vocab_size = words(scale, VOCAB_SIZE)
    rows, found = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        given = cache(Path(folder), vocab_size)
        for batch_size in BATCHES:
            turns, trainer = trained(given, vocab_size, batch_size, Path(folder))
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


def training(
    config: Mixture, vocab_size: int, targets: Tensor
) -> tuple[MixtureHead, Tensor, Callable[[], None]]:
    """A head, hidden states, and the head's part of a step, with fresh gradients."""
    torch.manual_seed(0)
    head = heads.build(
        config,
        hidden_size=MODEL.last_size or 0,
        vocab_size=vocab_size,
        bias=True,
        embedding_size=MODEL.embedding_size,
    )
    assert isinstance(head, MixtureHead)
    hidden = torch.rand(BATCH, SEGMENT, head.hidden_size).requires_grad_()

    def step() -> None:
        head.zero_grad()
        hidden.grad = None
        head.nll(hidden, targets, reduction="mean").backward()

    return head, hidden, step


def head(scale: float) -> None:
    """The head's part of a training step.

    Prior and contexts from hidden states (B, T, D), dropout, fused loss, and the gradients of all
    of them.  Its products are three a matrix (scores, dX, dW): of the prior (K, D), of the latent
    projection (K E, D) and of the output matrix (V, E) on every component's context.
    """
    vocab_size = words(scale)
    _, targets = segment(vocab_size)
    ours, other = f"MoSS, K = {K}", f"MoS, K = {K}"
    head, hidden, step = training(mixture(K, Sigsoftmax()), vocab_size, targets)
    contexts = torch.randn(targets.numel() * K, head.embedding_size)
    own, rows = head.projections, hidden.detach().flatten(0, 1)
    narrow = [fastest(rows, own.latent.weight), fastest(rows, own.prior.weight)]
    runs: dict[str, Callable[[], object]] = {}
    for layout in LAYOUTS:
        scores = fastest(contexts, head.weight, [layout])
        runs[f"floor, {scores}"] = lambda scores=scores: [run() for run in (scores, *narrow)]
    floors = list(runs)
    runs |= {ours: step, other: training(mixture(K, Softmax()), vocab_size, targets)[2]}
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    floor = lowest(times, floors)
    report(
        f"the head's part of a step, forward and backward: {targets.numel()} tokens, D "
        f"{head.hidden_size}, E {head.embedding_size}, V {vocab_size:,}, bias, contexts dropped.",
        HEADER,
        timed(times, floor),
        [verdict(f"{ours}: time over the floor", ratio(times[ours], floor), LIMIT)],
    )
