"""One process of a run that is interrupted after its first step, or taken up again.

python -m bench.train_restart SCALE OPTIMIZER FOLDER        JSON on standard output

The first process in a folder trains a step, writes the checkpoint and ends; the next takes it up
and ends after a step.  Both say how long things took, imports left out, and how much memory the
process held at its peak meanwhile (bench/resident.py).
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.parts import start
from bench.resident import growth, held
from bench.train_case import BATCH, MODEL, SEGMENT, VOCAB_SIZE, mixture
from wideneck.models.small.language_model import language_model
from wideneck.training.batches import Segments, Task
from wideneck.training.folder import RunFolder
from wideneck.training.loop import Trainer
from wideneck.training.optimizers import SGD, AdamW
from wideneck.training.processes import started
from wideneck.training.recipe import Recipe, Schedule
from wideneck.training.tensor_file import Stored, tensor_sum

K, NUM_TOKENS = 15, 929_589
"""Components, and tokens of the training text of PTB."""
OPTIMIZERS = {"adamw": AdamW(), "averaged sgd": SGD(average_from=0.0)}


class Enough(BaseException):
    """Stops the loop."""


def seconds_of_sums(checkpoint: Path) -> float:
    """What of writing it was their sums: the shortest of three times, from memory as there."""
    tensors = [tensor.clone() for _, tensor in Stored(checkpoint).tensors()]
    times = []
    for _ in range(3):
        now = time.perf_counter()
        for tensor in tensors:
            tensor_sum(tensor)
        times.append(time.perf_counter() - now)
    return min(times)


def main() -> None:
    scale = start()
    vocab_size = max(64, round(VOCAB_SIZE * scale))
    place = Path(sys.argv[3])
    recipe = Recipe(
        model=MODEL,
        head=mixture(K),
        optimizer=OPTIMIZERS[sys.argv[2]],
        training=Schedule(batch_size=BATCH, segment=SEGMENT, varied=False),
    )
    ids = torch.randint(vocab_size, (NUM_TOKENS,))
    accelerator = started()
    before = time.perf_counter()
    folder = RunFolder(place, recipe.to_dict())
    model = language_model(MODEL, mixture(K), vocab_size=vocab_size)
    task = Task(model=model, batches=Segments(ids, recipe.training, 0), valid=[])
    found: dict[str, Any] = {"model": time.perf_counter() - before}
    resumed = folder.checkpoint.exists()
    trainers: list[Trainer] = []  # of one, for the functions inside

    def begin() -> None:
        trainers.append(Trainer(task, recipe, folder, accelerator, show))

    def show(share: float, loss: float, speed: float) -> None:
        found["step"] = time.perf_counter() - before - found["model"] - found["restore"]
        if not resumed:
            now = time.perf_counter()
            found["peak"], found["kept"] = growth(trainers[0].save), 0
            found["save"] = time.perf_counter() - now
            found["size"] = folder.checkpoint.stat().st_size
            found["sums"] = seconds_of_sums(folder.checkpoint)
        raise Enough

    own = held()
    found["peak"] = growth(begin)
    found["kept"] = held() - own
    found["restore"] = time.perf_counter() - before - found["model"]
    try:
        trainers[0].train()
    except Enough:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
