"""Run by torchrun: memories and heads under DDP and FSDP2, and the losses of every step.

`losses` in one process, with kind "alone", trains on the whole batch, of which two get half each.
"""

import json
import sys

import torch
import torch.distributed as dist
from attachable import attached, token_ids
from torch.distributed import checkpoint
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
FSDP2 = [
    ("llama", "softmax", "memory"),
    ("llama", "moss", "memory"),
    ("llama", "plif", "memory"),
    ("llama-tied", "sigsoftmax", "memory"),
    ("llama-tied", "moss", "warming"),
    ("llama", "moss", ""),
    ("llama-tied", "gss", ""),
]
DDP = [
    ("llama", "softmax", "warming"),
    ("llama", "plif", "memory"),
    ("llama-tied", "moss", "linear"),
    ("llama-tied", "gss", ""),
]


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


def restored(case, head, memory, folder):
    """The loss of a sharded model, and that of another one after it has read its checkpoint."""
    found = []
    for seed in (3, 4):
        model = model_of(case, head, memory)
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        state = {"model": wrapped(model, "fsdp2").state_dict()}
        if not found:
            checkpoint.save(state, checkpoint_id=folder)
        else:
            found.append(model(**batch(0, 0, 1)).loss.item())
            checkpoint.load(state, checkpoint_id=folder)
            model.load_state_dict(state["model"])
        loss = model(**batch(0, 0, 1)).loss
        loss.backward()
        found.append(loss.item())
    return found


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    found = {
        kind: {" ".join(case): losses(*case, kind, rank, world) for case in cases}
        for kind, cases in (("ddp", DDP), ("fsdp2", FSDP2))
    }
    found["restored"] = restored("llama-tied", "moss", "memory", sys.argv[1])
    if rank == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
