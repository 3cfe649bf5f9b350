"""Where a model runs, as it is asked for, and what is refused in one sentence."""

import pytest
import torch
from torch import nn

from tiny import tiny_model
from wideneck.commands.options import placement_options
from wideneck.errors import WideneckError
from wideneck.models import placement as module
from wideneck.models.device_map import apart, device_map_of, input_device, is_offloaded
from wideneck.models.devices import CPU, device_here, in_float64, multiplies
from wideneck.models.placement import placed, placement

ACCELERATORS = torch.accelerator.is_available()


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine that says it has two; nothing is put on them."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(module, "multiplies", lambda device, dtype: dtype != torch.float16)


@pytest.mark.skipif(ACCELERATORS, reason="this machine has an accelerator")
def test_without_an_accelerator_everything_is_in_float32_on_the_cpu():
    found = placement()
    assert (found.device, found.dtype, found.device_map, found.batch) == (
        CPU,
        torch.float32,
        None,
        None,
    )
    assert placement(dtype="bfloat16").dtype == torch.bfloat16
    assert placement(device_map={"": "cpu"}).dtype == torch.float32
    assert found.measuring == CPU


def test_with_one_the_model_runs_there_as_it_is_stored(two_gpus):
    assert (placement().device, placement().dtype) == (torch.device("cuda:0"), None)
    assert placement(local_rank=1).device == torch.device("cuda:1")
    assert placement("cuda").device == torch.device("cuda:0")
    assert placement("cuda", local_rank=1).device == torch.device("cuda:1")
    assert placement("cuda:1", local_rank=0).device == torch.device("cuda:1")
    assert (placement("cpu").device, placement("cpu").dtype) == (CPU, torch.float32)
    assert placement(dtype="float32").dtype == torch.float32
    memory = placement(device_map="auto", max_memory={"cuda:1": 7, "cpu": 5}).max_memory
    assert memory == {1: 7, "cpu": 5}
    mapped = placement(device_map={"model": 1, "lm_head": "disk"})
    assert mapped.device_map == {"model": "cuda:1", "lm_head": "disk"}
    assert mapped.dtype is None
    assert placement(device_map={"": "cpu"}).dtype == torch.float32


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"device": "cuda:2"}, "no device cuda:2 here: give one of auto, cpu, cuda:0, cuda:1"),
        ({"device": "xpu"}, "no device xpu here"),
        ({"device": "meta"}, "no device meta here"),
        ({"device": "nonsense"}, "no device nonsense here"),
        ({"dtype": "float16"}, "cuda:0 has no products of float16"),
        ({"dtype": "int8"}, "one of auto, float32, bfloat16, float16, got int8"),
        ({"device_map": {"": "cuda:7"}}, "no device cuda:7 here"),
        ({"device_map": {"": 2}}, "no device cuda:2 here"),
        ({"device_map": {"": None}}, "every module a device, 'cpu' or 'disk', got None"),
        ({"device_map": {}}, "map of devices is empty"),
        ({"device_map": "auto", "device": "cpu"}, "leave one of the two out"),
        ({"max_memory": {0: 10}}, "for the device map auto"),
        ({"max_memory": {0: 10}, "device_map": {"": "cpu"}}, "for the device map auto"),
        ({"device_map": [1]}, "auto, a JSON file or a dict, got"),
        ({"max_memory": {}, "device_map": "auto"}, "a number of bytes for each"),
        ({"max_memory": [1], "device_map": "auto"}, "a number of bytes for each"),
        ({"max_memory": {"cpu": -1}, "device_map": "auto"}, "device cpu .* from 1 on, got -1"),
        ({"max_memory": {0: "2GB"}, "device_map": "auto"}, "device 0 .* from 1 on, got '2GB'"),
        ({"max_memory": {2: 10}, "device_map": "auto"}, "no device cuda:2 here"),
        ({"max_memory": {"disk": 10}, "device_map": "auto"}, "number or cpu, got disk"),
        ({"max_memory": {0: 10, "cuda:0": 5}, "device_map": "auto"}, "device 0 is given twice"),
        ({"local_rank": 2}, "Process 2 .* and there are 2: start one process for each"),
        ({"batch": 0}, "from 1 on, or auto, got 0"),
        ({"batch": True}, "got True"),
        ({"batch": "2"}, "got '2'"),
    ],
)
def test_what_is_not_here_is_refused(two_gpus, asked, said):
    with pytest.raises(WideneckError, match=said):
        placement(**asked)


@pytest.mark.parametrize(
    ("content", "said"),
    [("[1]", "should hold a JSON object"), ("{", "its JSON cannot be read"), ("{}", "is empty")],
)
def test_a_file_without_a_map_is_refused(tmp_path, content, said):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(WideneckError, match=said):
        device_map_of(tmp_path / "map.json")
    with pytest.raises(WideneckError, match="No such file"):
        device_map_of(str(tmp_path / "none.json"))


def test_a_map_names_modules_and_all_of_them():
    model, tied = tiny_model("llama"), tiny_model("llama-tied")
    assert apart({"": "cpu"}, model) == {"": "cpu"}
    both = {"model": "cpu", "lm_head": "disk"}
    assert apart(both, model) == both
    with pytest.raises(WideneckError, match=r"'model.layer.0', which is no module of this Llama"):
        apart({"model.layer.0": "cpu", "": "cpu"}, model)
    with pytest.raises(WideneckError, match=r"place of a weight .* name model.embed_tokens\."):
        apart({"model.embed_tokens.weight": "disk", "": "cpu"}, model)
    with pytest.raises(WideneckError, match=r"says nothing of lm_head.weight"):
        apart({"model": "cpu"}, model)
    with pytest.raises(WideneckError, match=r"they are one matrix"):
        apart(both, tied)
    apart({"model": "cpu", "lm_head": "cpu"}, tied)


def test_a_module_inside_another_takes_it_apart():
    model = tiny_model("llama")
    found = apart({"": "disk", "model.layers.0.mlp": "cpu", "model.layers.0": "disk"}, model)
    whole = dict.fromkeys(
        ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "disk"
    )
    layer = ("self_attn", "input_layernorm", "post_attention_layernorm")
    whole |= {f"model.layers.0.{part}": "disk" for part in layer}
    assert found == whole | {"model.layers.0.mlp": "cpu"}
    outer = nn.Sequential(nn.Linear(2, 2))
    outer.scale = nn.Parameter(torch.ones(1))
    with pytest.raises(WideneckError, match="other places than its own scale"):
        apart({"": "cpu", "0": "disk"}, outer)


def test_a_model_in_memory_stays_where_it_is():
    model = tiny_model("llama").to(torch.bfloat16)
    found = placed(model, batch=3)
    assert (found.device, found.dtype, found.batch) == (CPU, None, 3)
    for asked in ({"device": "cpu"}, {"dtype": "float32"}, {"device_map": "auto"}):
        with pytest.raises(WideneckError, match=f"leave {next(iter(asked))} out"):
            placed(model, **asked)
    assert input_device(model) == CPU
    assert not is_offloaded(model)
    assert input_device(nn.Identity()) == CPU


def test_options_become_what_the_functions_take():
    typed = {"device": None, "dtype": "float32", "device_map": "auto", "batch": "4"}
    typed["max_memory"] = ["0=70GB", "cpu=20 GB"]
    assert placement_options(typed) == {
        "dtype": "float32",
        "device_map": "auto",
        "batch": 4,
        "max_memory": {0: 70 * 10**9, "cpu": 20 * 10**9},
    }
    assert placement_options({"batch": "auto"}) == {"batch": "auto"}
    for wrong, said in (
        ({"batch": "many"}, "batch is a whole number, got 'many'"),
        ({"max_memory": ["cpu"]}, "--max-memory is a size"),
        ({"max_memory": ["cpu=-1"]}, "--max-memory is a size"),
        ({"max_memory": ["cpu=1GB", "cpu=2GB"]}, "--max-memory cpu came more than once"),
    ):
        with pytest.raises(WideneckError, match=said):
            placement_options(wrong)


def test_products_tell_what_a_device_computes():
    assert multiplies(CPU, torch.float64)
    assert not multiplies(torch.device("meta"), torch.float32)
    assert device_here("cpu:0") == CPU
    assert in_float64(torch.ones(2)).dtype == torch.float64
