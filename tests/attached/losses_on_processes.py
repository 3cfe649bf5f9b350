"""Run by torchrun: trains attached models under DDP or FSDP2, and prints their losses.

In one process it trains on the whole batch, of which two processes get half each.  The models
are saved before the last step, so that the loss of the saved ones is the last.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import (
    Accelerator,
    DistributedType,
    FullyShardedDataParallelPlugin,
    PartialState,
)
from accelerate.state import AcceleratorState
from attachable import attached, token_ids
from torch.distributed.tensor import DTensor

import wideneck as wn

NUM_STEPS = 4
# A shift at which the sigmoid bends, so that it learns.
BENT = {"name": "sigsoftmax", "shift": 0.0, "learned": True}
HEADS = {
    "sigsoftmax": BENT,
    "moss": {"name": "moss", "num_components": 2, "activation": BENT},
}
CASES = [(case, head) for case in ("llama", "llama-tied") for head in HEADS]
CASES += [("llama-tied", "low_rank"), ("llama", "memory"), ("llama-tied", "memory")]
# Sums over targets, so that halves add up to the whole.
MEMORY = {"temperature": 0.5, "bias": -1.0, "reduction": "sum", "alpha": 0.01}


def accelerator_of(kind):
    accelerator = Accelerator(cpu=True)
    if kind == "fsdp2" and accelerator.num_processes > 1:
        # On a CPU accelerate takes no notice of a plugin: without this the test would run DDP.
        os.environ["ACCELERATE_USE_FSDP"] = "true"
        AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
            cpu_ram_efficient_loading=False,
        )
        for state in (AcceleratorState, PartialState):
            state._shared_state["distributed_type"] = DistributedType.FSDP
    return accelerator


def losses(case, head, accelerator, folder, kind):
    world, rank = accelerator.num_processes, accelerator.process_index
    model = attached(case, {"low_rank": "low_rank", **HEADS}.get(head, "softmax")).train()
    if head == "memory":
        wn.attach_memory(model, **MEMORY)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model, optimizer = accelerator.prepare(model, optimizer)
    ids = token_ids(0, (4, 12))[rank::world]
    result = []
    for step in range(NUM_STEPS):
        if step == NUM_STEPS - 1:
            accelerator.unwrap_model(model).save_pretrained(
                folder / f"{case} {head}",
                state_dict=accelerator.get_state_dict(model),
                is_main_process=accelerator.is_main_process,
            )
        loss = model(input_ids=ids, labels=ids).loss
        result.append(accelerator.reduce(loss.detach(), "mean").item())
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    sharded = {isinstance(parameter, DTensor) for parameter in model.parameters()}
    assert sharded == {kind == "fsdp2" and world > 1}
    accelerator.free_memory()
    return result


def main():
    torch.set_num_threads(1)
    kind, folder = sys.argv[1], Path(sys.argv[2])
    accelerator = accelerator_of(kind)
    found = {
        f"{case} {head}": losses(case, head, accelerator, folder, kind) for case, head in CASES
    }
    if accelerator.is_main_process:
        print(json.dumps({"num_processes": accelerator.num_processes, "losses": found}))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
