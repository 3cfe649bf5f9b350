"""Token outputs under FSDP2 and DDP, in two processes: values and gradients of one."""

import json
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from attachable import attached, shaken, token_ids
from remembering import remembering
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import wideneck as wn

MODELS = {
    "sigsoftmax": lambda: shaken(attached("llama", "sigsoftmax")).double(),
    "moss": lambda: shaken(attached("llama-tied", "moss")).double(),
    "memory": lambda: remembering("llama", learned=True).double(),
}
CASES = [f"{kind}/{model}" for kind in ("ddp", "fsdp2", "head apart") for model in MODELS]
CASES.remove("head apart/moss")  # its weight is the embedding's: no unit of its own


def spread(model, kind):
    if kind == "ddp":
        return DistributedDataParallel(model, find_unused_parameters=True)
    for layer in model.model.layers:
        fully_shard(layer)
    if kind == "head apart":  # released as soon as it has answered
        fully_shard(model.lm_head)
    return fully_shard(model)


def told(model, ids, world):
    got = wn.token_outputs(
        model, input_ids=ids, labels=ids, outputs=("log_prob", "entropy", "top1"), temperature=1.4
    )
    # Gradients are means over the processes.
    ((got.log_prob + got.entropy).sum() * world).backward()
    return got


def whole(parameter):
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros(parameter.shape)
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


def difference(case, rank):
    kind, name = case.split("/")
    ids = token_ids(0, (4, 12))
    one, two = MODELS[name](), spread(MODELS[name](), kind)
    want, got = told(one, ids, 1), told(two, ids[rank::2], 2)
    worst = 0.0
    for field in ("log_prob", "entropy"):
        error = getattr(got, field) - getattr(want, field)[rank::2]
        worst = max(worst, error.abs().max().item())
    for mine, exact in zip(two.parameters(), one.parameters(), strict=True):
        a, b = whole(mine), whole(exact)
        worst = max(worst, ((a - b).abs().max() / b.abs().max().clamp(min=1e-2)).item())
    return worst


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for case in CASES:
        try:
            found[case] = difference(case, rank)
        except Exception as error:
            found[case] = f"{type(error).__name__}: {error}"
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump(found, file)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # as in functional/test_vocab_parallel.py


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_equals_one_process(errors, case):
    for one in errors:
        assert isinstance(one[case], float), one[case]
        assert one[case] < 1e-6
