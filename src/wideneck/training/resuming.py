"""A run to its checkpoint and back."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.training.checkpoint import (
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
    put,
    read_header,
    tensors_below,
    whole,
    write_tensors,
)
from wideneck.training.state import Standing

if TYPE_CHECKING:
    from wideneck.training.loop import Trainer

MODEL, OPTIMIZER, AVERAGE = "model.", "optimizer.", "average."
CARRIED, RANDOM = "carried.", "random."


def store(run: "Trainer") -> None:
    """Write the whole state; every process must call, the first one writes."""
    optimizer: Any = run.optimizer
    tensors = {MODEL + name: x for name, x in model_tensors(run.plain).items()}
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    tensors |= {OPTIMIZER + key: x for key, x in optimizer_tensors(run.plain, inner).items()}
    tensors |= {AVERAGE + name: whole(x) for name, x in run.averaging.means.items()}
    for i, x in enumerate(run.carried):
        tensors[f"{CARRIED}{i}"] = _of_all(run, x.detach())
    for name, x in _random_states(run).items():
        tensors[RANDOM + name] = _of_all(run, x)
    run.standing.num_averaged = run.averaging.count if run.averaging.started else None
    if run.accelerator.is_main_process:
        about = {
            "standing": run.standing.to_dict(),
            "processes": run.accelerator.num_processes,
            **run.task.about,
        }
        write_tensors(run.folder.checkpoint, tensors, about)


def restore(run: "Trainer") -> None:
    """Take up the state that is there.

    Raises:
        WideneckError: it is of another vocabulary, another model or another number of processes.
    """
    path = run.folder.checkpoint
    about = read_header(path)
    for key, value in run.task.about.items():
        if about.get(key) != value:
            raise WideneckError(
                f"{path} was trained with another {key} ({about.get(key)!r} there, {value!r} now); "
                "give the text it was trained on, or train in another folder by --out."
            )
    if about["processes"] != run.accelerator.num_processes:
        raise WideneckError(
            f"{path} was written by {about['processes']} processes, now there are "
            f"{run.accelerator.num_processes}; start as many, or train in another folder by --out."
        )
    rank, device = run.accelerator.process_index, run.accelerator.device
    inner: Any = getattr(run.optimizer, "optimizer", run.optimizer)
    run.standing = Standing(**about["standing"])
    load_model(run.plain, path, MODEL)
    load_optimizer(run.plain, inner, path, OPTIMIZER)
    if run.standing.num_averaged is not None:
        run.averaging.start()
        for name, mean in tensors_below(path, AVERAGE):
            put(run.averaging.means[name], mean)
        run.averaging.count = run.standing.num_averaged
    carried = dict(tensors_below(path, CARRIED))
    run.carried = [carried[str(i)][rank].to(device) for i in range(len(carried))]
    for name, state in tensors_below(path, RANDOM):
        if name == "cpu":
            torch.set_rng_state(state[rank])
        else:
            torch.get_device_module(device).set_rng_state(state[rank])


def _random_states(run: "Trainer") -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if run.accelerator.device.type != "cpu":
        states["device"] = torch.get_device_module(run.accelerator.device).get_rng_state()
    return states


def _of_all(run: "Trainer", x: Tensor) -> Tensor:
    """Stacked over the processes, on the CPU."""
    if run.accelerator.num_processes == 1:
        return x.cpu()[None].contiguous()
    gathered: Any = run.accelerator.gather(x[None].to(run.accelerator.device))
    return gathered.cpu().contiguous()
