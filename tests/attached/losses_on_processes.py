"""Run by torchrun: trains attached models under DDP or FSDP2, and prints their losses.

In one process it trains on the whole batch, of which two processes get half each.  The models
are saved before the last step, so that the loss of the saved ones is the last.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from attachable import attached, token_ids
from torch.distributed.tensor import DTensor

NUM_STEPS = 4
# A shift at which the sigmoid bends, so that it learns.
BENT = {"name": "sigsoftmax", "shift": 0.0, "learned": True}
HEADS = {
    "sigsoftmax": BENT,
    "moss": {"name": "moss", "num_components": 2, "activation": BENT},
}
CASES = [(case, head) for case in ("llama", "llama-tied") for head in HEADS]


def accelerator_of(kind):
    if kind == "ddp":
        return Accelerator(cpu=True)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
        cpu_ram_efficient_loading=False,
    )
    return Accelerator(cpu=True, fsdp_plugin=plugin)


def losses(case, head, accelerator, folder):
    world, rank = accelerator.num_processes, accelerator.process_index
    model = attached(case, HEADS[head]).train()
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
    assert sharded == {accelerator.is_fsdp2}
    accelerator.free_memory()
    return result


def main():
    torch.set_num_threads(1)
    accelerator = accelerator_of(sys.argv[1])
    folder = Path(sys.argv[2])
    found = {f"{case} {head}": losses(case, head, accelerator, folder) for case, head in CASES}
    if accelerator.is_main_process:
        print(json.dumps({"num_processes": accelerator.num_processes, "losses": found}))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
