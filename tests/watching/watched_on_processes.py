"""Run by torchrun: what Watch finds under DDP and FSDP2; alone, it sees the whole batch."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import wideneck as wn
from tiny import tiny_model

CASES = [("llama", None), ("llama-tied", None), ("llama", "sigsoftmax"), ("llama-tied", "moss")]
KINDS = ("ddp", "fsdp2")


def wrapped(model, kind):
    if kind == "alone":
        return model
    if kind == "ddp":
        return DistributedDataParallel(model)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding.weight is head.weight:
        fully_shard([embedding, model.model.norm, head])
    else:
        for part in (embedding, model.model.norm, head):
            fully_shard(part)
    return fully_shard(model)


def found(case, head, kind, file=None):
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    torch.manual_seed(1)
    model = tiny_model(case)
    if head is not None:
        wn.attach(model, head)
    model = wrapped(model.train(), kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    watch = wn.Watch(
        model, file=file, tokens=64, scores_every=1, weights_every=2, spectra_every=2, limit=None
    )
    ids = torch.randint(3, 96, (4, 12), generator=torch.Generator().manual_seed(0))[rank::world]
    told = []
    for step in range(1, 4):
        model(input_ids=ids, labels=ids).loss.backward()
        told.append(watch.step(step))
        optimizer.step()
        optimizer.zero_grad()
    watch.close()
    return told


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    folder, result = Path(sys.argv[1]), {}
    for kind in KINDS:
        for case, head in CASES:
            name = f"{kind} {case} {head}"
            result[name] = found(case, head, kind, folder / f"{name}.jsonl")
    if dist.get_rank() == 0:
        print(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
