"""Reading from a hub, which here is a small server of our own; no network is used.

huggingface_hub reads its settings from the environment when it is imported, so every reading
happens in one child process, started once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hub_server import Hub
from tiny import tiny_model
from wideneck.models import read_head

CHILD = """
import json, sys
from huggingface_hub import constants
from wideneck.errors import WideneckError
from wideneck.models import read_head
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    constants.HF_HUB_OFFLINE = order["offline"]
    try:
        head = read_head(order["model"])
        answer = {f: getattr(head, f) for f in ("sha256", "tied", "tying", "name", "tokens")}
    except WideneckError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Reader:
    """The hub, its models' folders and the child process that reads from it."""

    def __init__(self, root: Path):
        self.root = root / "models"
        self.hub = Hub(self.root)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and not name.startswith("HF_")
        }
        environment |= {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(root / "home")}
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == "ready\n"

    def save(self, name, model, **how):
        model.save_pretrained(self.root / "org" / name, **how)
        return self.root / "org" / name

    def read(self, model, *, offline=False):
        self.hub.sent.clear()
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        print(json.dumps({"model": model, "offline": offline}), file=self.child.stdin, flush=True)
        return json.loads(self.child.stdout.readline())

    def close(self):
        self.child.communicate(timeout=10)
        self.hub.close()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    reader = Reader(tmp_path_factory.mktemp("hub"))
    yield reader
    reader.close()


def weights_sent(reader):
    return sum(n for name, n in reader.hub.sent.items() if name.endswith(".safetensors"))


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "4KB"}])
@pytest.mark.parametrize("name", ["llama", "gpt2", "phi"])
def test_only_the_bytes_of_the_head_are_fetched(reader, name, shards):
    model = tiny_model(name)
    folder = reader.save(f"{name}-{len(shards)}", model, **shards)
    found = reader.read(f"org/{folder.name}")
    here = read_head(folder)
    assert (found["sha256"], found["tied"], found["name"]) == (here.sha256, here.tied, here.name)
    assert found["tokens"] is None

    # The head, the embedding it is compared with (tiny: one block), and headers.
    head = here.weight.numel() * 4
    files = list(folder.glob("*.safetensors"))
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in files)
    compared = 0 if here.tied else head
    bias = 0 if here.bias is None else 4 * len(here.bias)
    assert weights_sent(reader) <= head + compared + bias + headers
    assert weights_sent(reader) < sum(file.stat().st_size for file in files)


def test_a_large_model_costs_its_head(reader):
    """Head and embedding differ at once, so of the embedding only a first block is fetched."""
    import transformers as tr

    from tiny import LLAMA

    torch.manual_seed(0)
    sizes = {"vocab_size": 4096, "hidden_size": 64}
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**(LLAMA | sizes)))
    folder = reader.save("large", model)
    assert reader.read("org/large")["sha256"] == read_head(folder).sha256
    head = 4096 * 64 * 4
    assert head < weights_sent(reader) < 1.1 * head


def test_a_bin_file_is_downloaded_whole_and_then_found_in_the_cache(reader):
    model = tiny_model("llama")
    folder = reader.root / "org" / "old"
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    sha256 = read_head(model).sha256
    assert reader.read("org/old")["sha256"] == sha256
    assert reader.hub.sent["pytorch_model.bin"] == (folder / "pytorch_model.bin").stat().st_size
    assert reader.read("org/old", offline=True)["sha256"] == sha256
    assert not reader.hub.sent


def test_a_partly_cached_model_without_a_network_says_so(reader):
    reader.save("partly", tiny_model("llama"))
    assert "sha256" in reader.read("org/partly")  # caches config.json, not the weights
    error = reader.read("org/partly", offline=True)["error"]
    assert "HF_HUB_OFFLINE" in error


@pytest.mark.parametrize(
    ("model", "offline", "message"),
    [
        ("org/nothing", False, "neither a file or folder here nor a Hugging Face model"),
        ("org/there@other", False, "has no revision 'other'"),
        ("org/there", True, "HF_HUB_OFFLINE is set and org/there is not in the local cache"),
        ("org/empty", False, "holds no model weights"),
        ("org/short", False, "ends early"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(reader, model, offline, message):
    for name in ("there", "empty", "short"):
        (reader.root / "org" / name).mkdir(parents=True, exist_ok=True)
    (reader.root / "org" / "there" / "model.safetensors").touch()
    (reader.root / "org" / "short" / "model.safetensors").write_bytes(b"\x08\0\0\0")
    error = reader.read(model, offline=offline)["error"]
    assert message in error
    assert "\n" not in error
