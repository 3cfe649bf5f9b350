"""One process of a run that is interrupted after its first step, or taken up again.

The first process in a folder trains a step, writes the checkpoint and ends; the next takes it up
and ends after a step.  Both say how long things took, imports left out, and how much memory the
process held at its peak meanwhile (bench/resident.py).
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench.parts import seconds
from bench.resident import growth, held
from bench.train import BATCH, MODEL, SEGMENT, mixture
from wideneck.models.small.language_model import language_model
from wideneck.training.batches import Segments
from wideneck.training.folder import RunFolder
from wideneck.training.loop import Trainer
from wideneck.training.optimizers import SGD, AdamW
from wideneck.training.processes import started
from wideneck.training.recipe import Recipe
from wideneck.training.schedule import Schedule
from wideneck.training.task import Task
from wideneck.training.tensor_file import Stored, tensor_sum

K, NUM_TOKENS = 15, 929_589
"""Components, and tokens of the training text of PTB."""
OPTIMIZERS = {"adamw": AdamW(), "averaged sgd": SGD(average_from=0.0)}


class Enough(BaseException):
    """Stops the loop."""


def seconds_of_sums(checkpoint: Path) -> float:
    """What of writing it was their sums: the shortest of three times, from memory as there."""
    tensors = [tensor.clone() for _, tensor in Stored(checkpoint).tensors()]
    return min(seconds(lambda: [tensor_sum(tensor) for tensor in tensors]) for _ in range(3))


def process(optimizer: str, vocab_size: int, place: str) -> dict[str, Any]:
    """Either process."""
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
