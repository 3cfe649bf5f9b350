"""Files of tensors: what is in them, that it comes back to the bit, and what it costs."""

import sys

import pytest
import torch
from safetensors import safe_open
from torch import nn

from wideneck.models.small.config import Transformer
from wideneck.models.small.transformer import TransformerBackbone
from wideneck.training.checkpoint import (
    collected,
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
    put,
    whole,
)
from wideneck.training.tensor_file import Stored, write_tensors


class Small(nn.Module):
    """A matrix that is tied, a vector, a lone number, and two buffers of which one is kept."""

    def __init__(self):
        super().__init__()
        self.embedding, self.output = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.output.weight = self.embedding.weight
        self.shift = nn.Parameter(torch.randn(()))
        self.register_buffer("kept", torch.randn(2))
        self.register_buffer("made", torch.randn(2), persistent=False)

    def loss(self, ids):
        return (self.output(self.embedding(ids)) + self.shift).square().mean()


def a_few_steps(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        optimizer.zero_grad()
        model.loss(torch.randint(5, (4,), generator=generator)).backward()
        optimizer.step()


def test_a_model_comes_back_to_the_bit(tmp_path):
    model, other = Small(), Small()
    made = other.made.clone()
    write_tensors(tmp_path / "m", dict(model_tensors(model)), {"step": 3})
    load_model(other, Stored(tmp_path / "m"))
    for (name, ours), (_, theirs) in zip(model_tensors(model), model_tensors(other), strict=True):
        assert torch.equal(ours, theirs), name
    assert other.output.weight is other.embedding.weight
    assert torch.equal(other.made, made)
    assert Stored(tmp_path / "m").about == {"step": 3}


def test_a_tied_matrix_is_kept_once_and_what_a_model_makes_itself_is_not():
    names = dict(model_tensors(Small())).keys()
    assert names == {"embedding.weight", "output.bias", "shift", "kept"}


def test_the_frequencies_of_rotary_positions_are_not_kept(tmp_path):
    options = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    config = Transformer(
        architecture="llama", context=8, options={**options, "num_hidden_layers": 1}
    )
    backbone = TransformerBackbone(config, vocab_size=11)
    assert any("inv_freq" in name for name, _ in backbone.named_buffers())
    tensors = dict(model_tensors(backbone))
    assert not any("inv_freq" in name for name in tensors)
    write_tensors(tmp_path / "m", tensors, {})
    load_model(backbone, Stored(tmp_path / "m"))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_goes_on_to_the_bit(make, tmp_path):
    model = Small()
    optimizer = make(model.parameters(), lr=0.1)
    a_few_steps(model, optimizer, 0)
    tensors = {f"m.{k}": x for k, x in model_tensors(model)}
    tensors |= {f"o.{k}": x for k, x in optimizer_tensors(model, optimizer)}
    write_tensors(tmp_path / "c", tensors, {})
    other = Small()
    resumed = make(other.parameters(), lr=0.1)
    load_model(other, Stored(tmp_path / "c"), "m.")
    load_optimizer(other, resumed, Stored(tmp_path / "c"), "o.")
    for theirs, ours in zip(model.parameters(), other.parameters(), strict=True):
        state, expected = resumed.state[ours], optimizer.state[theirs]
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(state[key], value)
    a_few_steps(model, optimizer, 1)
    a_few_steps(other, resumed, 1)
    for theirs, ours in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(theirs, ours)


def test_a_process_that_writes_nothing_keeps_nothing_but_looks_at_all():
    seen = []

    def named():
        for name in "ab":
            seen.append(name)
            yield name, torch.zeros(1)

    assert collected(named(), keep=False) == {}
    assert seen == ["a", "b"]
    assert collected(named(), keep=True).keys() == {"a", "b"}


def test_any_dtype_comes_back(tmp_path):
    tensors = {
        "bf16": torch.randn(3).bfloat16(),
        "scattered": torch.randn(4, 3).T,
        "bytes": torch.get_rng_state(),
        "number": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
    }
    write_tensors(tmp_path / "t", {name: whole(x) for name, x in tensors.items()}, {})
    with safe_open(tmp_path / "t", framework="pt") as file:
        for name, expected in tensors.items():
            place = torch.empty_like(expected)
            put(place, file.get_tensor(name))
            assert torch.equal(place, expected)


MEGABYTES = 96


def peak_growth(work):
    """Bytes by which the most memory that was resident went over what was there before."""

    def status(key):
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith(key))
        return 1024 * int(line.split()[1])

    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the most is what is there now
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_neither_writing_nor_reading_doubles_the_memory(tmp_path):
    layers = [nn.Linear(1024, 1024, bias=False) for _ in range(MEGABYTES // 4)]
    model = nn.Sequential(*layers)
    size = sum(p.numel() * 4 for p in model.parameters())
    assert size == MEGABYTES * 2**20

    def write():
        write_tensors(tmp_path / "m", dict(model_tensors(model)), {})

    assert peak_growth(write) < size / 4
    # Pages of the file that are mapped while it is read count too, until the system wants them.
    assert peak_growth(lambda: load_model(model, Stored(tmp_path / "m"))) < size * 1.25
