"""Run in two processes at once: trains under DDP, then under FSDP2, and prints what it found.

accelerate takes FSDP2 from its environment on accelerators alone, so it is told here that the
processes, which are on CPUs, share their model by it.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import DistributedType, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from torch.distributed.tensor import DTensor
from training_runs import AWD, GPT2, Killed, changed, same_run, trained

from wideneck.errors import WideneckError
from wideneck.training.loop import Trainer
from wideneck.training.processes import started

NO_DROPOUT = {
    "awd_lstm": {
        "input_dropout": 0.0,
        "hidden_dropout": 0.0,
        "output_dropout": 0.0,
        "embedding_dropout": 0.0,
        "weight_dropout": 0.0,
    },
    "gpt2": {
        "options": {**GPT2["model"]["options"], "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    },
}


def recipes(text):
    """Without dropout, whose masks no two processes share with one."""
    short = {"epochs": 0.6, "evaluate_every": 0.3, "log_every": 4}
    awd = changed(AWD, data={"text": text}, training=short, optimizer={"average_from": 0.3})
    gpt2 = changed(GPT2, data={"text": text}, training=short)
    return {
        "awd_lstm": changed(awd, model=NO_DROPOUT["awd_lstm"], head={"dropout": 0.0}),
        "gpt2": changed(gpt2, model=NO_DROPOUT["gpt2"]),
        "dropout": awd,
    }


def killed_and_resumed(content, out, after):
    """Killed in all processes, as a scheduler does, and started again."""
    step, count = Trainer._step, 0

    def counted(self, batch):
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        step(self, batch)

    Trainer._step = counted
    try:
        trained(changed(content, training={"checkpoint_every": 0}), out)
    except Killed:
        pass
    finally:
        Trainer._step = step
    torch.rand(3)
    return trained(changed(content, training={"checkpoint_every": 0}), out)


def share_by_fsdp2():
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="no_wrap"
    )
    for state in (AcceleratorState, PartialState):
        state._shared_state["distributed_type"] = DistributedType.FSDP


def kinds_of_parameters():
    """Told by every trainer that is made."""
    found, make = set(), Trainer.__init__

    def told(self, *arguments, **options):
        make(self, *arguments, **options)
        found.update(isinstance(p, DTensor) for p in self.plain.parameters())

    Trainer.__init__ = told
    return found


def refused(work):
    try:
        work()
    except WideneckError as error:
        return str(error)


def refused_launches():
    """What accelerate can be started with and a run cannot."""
    found = {}
    AcceleratorState._shared_state["fsdp_plugin"].fsdp_version = 1
    found["fsdp 1"] = refused(started)
    AcceleratorState._shared_state["fsdp_plugin"].fsdp_version = 2
    os.environ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = "2"
    found["accumulation"] = refused(started)
    return found


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    made = recipes(str(folder / "bottles.txt"))
    found = {"same": {}}
    sharded = kinds_of_parameters()
    for kind, resumed in (("ddp", "dropout"), ("fsdp2", "gpt2")):
        if kind == "fsdp2":
            share_by_fsdp2()
        sharded.clear()
        out = {name: folder / f"{kind}-{name}" for name in (*made, "again")}
        found[kind] = {name: trained(made[name], out[name]) for name in ("awd_lstm", resumed)}
        killed_and_resumed(made[resumed], out["again"], 4)
        found["same"][kind] = same_run(out["again"], out[resumed])
        found[kind]["sharded"] = sorted(sharded)
    missing = changed(made["gpt2"], data={"text": "nowhere"})
    said = [None] * 2
    dist.all_gather_object(said, refused(lambda: trained(missing, folder / "refused")))
    found["refused"] = said
    found["launches"] = refused_launches()
    if dist.get_rank() == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
