"""A run to its checkpoint and back."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor

from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.training.checkpoint import (
    collected,
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
    put,
    whole,
)
from wideneck.training.headers import CheckpointHeader
from wideneck.training.tensor_file import Stored, check, write_tensors

if TYPE_CHECKING:
    from wideneck.training.loop import Trainer

MODEL, OPTIMIZER, AVERAGE = "model.", "optimizer.", "average."
CARRIED, RANDOM = "carried.", "random."


def store(run: "Trainer") -> None:
    """Write the whole state; every process must call, the first one writes."""
    first = run.accelerator.is_main_process
    tensors = collected(_tensors(run), keep=first)
    run.standing.num_averaged = run.averaging.count if run.averaging.started else None
    if first:
        header = CheckpointHeader(standing=run.standing, processes=run.accelerator.num_processes)
        about = msgspec.to_builtins(header) | run.task.about
        write_tensors(run.folder.checkpoint, tensors, about)


def restore(run: "Trainer", progress: Progress | None = None) -> None:
    """Take up the state that is there; `progress` is told of bytes if reading it takes a second."""
    stored = Stored(run.folder.checkpoint, progress)
    path, ours = stored.path, run.task.about
    theirs = {k: v for k, v in stored.about.items() if k not in CheckpointHeader.__struct_fields__}
    if "standing" not in stored.about or theirs.keys() != ours.keys():
        raise WideneckError(f"{path} is no checkpoint of this run; remove it to start over.")
    for key, value in ours.items():
        if theirs[key] != value:
            raise WideneckError(
                f"{path} does not go with this run: its {key} is {theirs[key]!r}, now it is "
                f"{value!r}; give the text and the model that it was trained on, or train in "
                "another folder by --out."
            )
    header = stored.header(CheckpointHeader)
    if header.processes != run.accelerator.num_processes:
        raise WideneckError(
            f"{path} was written by {header.processes} processes, now there are "
            f"{run.accelerator.num_processes}; start as many, or train in another folder by --out."
        )
    if run.first:
        stored.say_if_without_sums()
    run.standing = header.standing
    load_model(run.plain, stored, MODEL)
    with reading(path, "the state of the run", stored.mend):
        _restore_rest(run, stored)
    if run.standing.best is not None:
        _check_best(run.folder.model, ours, progress)


def _check_best(path: Path, ours: dict[str, Any], progress: Progress | None) -> None:
    """The best weights so far are read at the end of the run only, hours after they went bad."""
    stored = Stored(path)
    if "step" not in stored.about or any(stored.about.get(k) != v for k, v in ours.items()):
        raise WideneckError(
            f"{path} does not hold the best weights of this run, but another file of tensors: give "
            "the right one back, or remove the folder to start over."
        )
    check(path, progress)


def _restore_rest(run: "Trainer", stored: Stored) -> None:
    rank, device = run.accelerator.process_index, run.accelerator.device
    load_optimizer(run.plain, run.optimizer.optimizer, stored, OPTIMIZER)
    if run.standing.num_averaged is not None:
        run.averaging.start()
        for name, mean in stored.tensors(AVERAGE):
            put(run.averaging.means[name], mean)
        run.averaging.count = run.standing.num_averaged
    carried = {name: states[rank] for name, states in stored.tensors(CARRIED)}
    # Copies: what is mapped goes when the file is replaced.
    run.carried = [carried[str(i)].to(device, copy=True) for i in range(len(carried))]
    for name, states in stored.tensors(RANDOM):
        state = states[rank].clone()  # torch reads from the start of the memory, also of a part
        if name == "cpu":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(device).set_rng_state(state)


def _tensors(run: "Trainer") -> Iterator[tuple[str, Tensor]]:
    for name, x in model_tensors(run.plain):
        yield MODEL + name, x
    for name, x in optimizer_tensors(run.plain, run.optimizer.optimizer):
        yield OPTIMIZER + name, x
    for name, x in run.averaging.means.items():
        yield AVERAGE + name, whole(x)
    for i, x in enumerate(run.carried):
        yield f"{CARRIED}{i}", _of_all(run, x)
    yield f"{RANDOM}cpu", _of_all(run, torch.get_rng_state())
    device = run.accelerator.device
    if device.type != "cpu":
        yield f"{RANDOM}device", _of_all(run, torch.get_device_module(device).get_rng_state())


def _of_all(run: "Trainer", x: Tensor) -> Tensor:
    """Stacked over the processes, on the CPU."""
    if run.accelerator.num_processes == 1:
        return x.cpu()[None].contiguous()
    gathered: Any = run.accelerator.gather(x[None].to(run.accelerator.device))
    return gathered.cpu().contiguous()
