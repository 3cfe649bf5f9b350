"""Run by torchrun: memories and heads under DDP and FSDP2, and the losses of every step.

Without torchrun it trains on the whole batch, of which two processes get half each.
"""

import json
import os
import sys

import torch
import torch.distributed as dist
from attachable import attached, token_ids
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import wideneck as wn

NUM_STEPS = 4
BENT = {"name": "sigsoftmax", "shift": 0.0, "learned": True}
HEADS = {
    "softmax": "softmax",
    "sigsoftmax": BENT,
    "moss": {"name": "moss", "num_components": 2, "activation": BENT},
    "plif": "plif",
    "gss": "gss",
}
# Sums over targets, so that halves add up to the whole.
MEMORY = {"temperature": 0.5, "bias": -1.0, "reduction": "sum", "alpha": 0.1}
MEMORIES = {
    "": None,
    "memory": MEMORY,
    "warming": {**MEMORY, "warmup_batches": 2},
    "linear": {**MEMORY, "mixture": "linear"},
}
CASES = [(case, head, "memory") for case in ("llama", "llama-tied") for head in HEADS]
CASES += [("llama", "sigsoftmax", ""), ("llama-tied", "moss", "")]
CASES += [("llama", "softmax", "warming"), ("llama-tied", "softmax", "linear")]


def batch(step, rank, world):
    """In the third step half of the rows have no target, in two processes all of one's."""
    ids = token_ids(step, (4, 12)) % 9 + 3  # few, so that they stand in the memory
    labels = ids.clone()
    if step == 2:
        labels[1::2] = -100
    return {"input_ids": ids[rank::world], "labels": labels[rank::world]}


def model_of(case, head, memory):
    model = attached(case, HEADS[head])
    if MEMORIES[memory] is not None:
        wn.attach_memory(model, **MEMORIES[memory])
    return model.train()


def wrapped(model, kind):
    if kind == "alone":
        return model
    if kind == "ddp":
        return DistributedDataParallel(model)
    for layer in model.model.layers:
        fully_shard(layer)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding.weight is head.weight:
        fully_shard([embedding, model.model.norm, head])
    else:
        for part in (embedding, model.model.norm, head):
            fully_shard(part)
    if hasattr(model, "cache_memory"):
        fully_shard(model.cache_memory)
    return fully_shard(model)


def losses(case, head, memory, kind, rank, world):
    print(case, head, memory, kind, file=sys.stderr)
    model = wrapped(model_of(case, head, memory), kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    result = []
    for step in range(NUM_STEPS):
        given = batch(step, rank, world)
        count = (batch(step, 0, 1)["labels"][:, 1:] != -100).sum()
        loss = model(**given, num_items_in_batch=count).loss * world  # a mean over processes
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach() / world
        if world > 1:
            dist.all_reduce(mean)
        result.append(mean.item())
    return result


def main():
    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    kinds = ["alone"]
    if world > 1:
        dist.init_process_group("gloo")
        kinds = os.environ.get("KINDS","ddp fsdp2").split()
    found = {
        f"{kind} {' '.join(case)}".strip(): losses(*case, kind, rank, world)
        for kind in kinds
        for case in CASES[int(os.environ.get("FROM",0)):]
    }
    if rank == 0:
        print(json.dumps(found))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
