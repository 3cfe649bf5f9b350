import hashlib
import json
import shutil
from typing import Any

import pytest
import torch
import transformers as tr
from safetensors.torch import save_file

from checkpoints import assert_is_head_of, edit_config, edit_tensors, saved, without
from tiny import CASES, LLAMA, D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import read_head

TIED = {"gpt2", "llama-tied", "opt", "gemma2", "gemma2-low-cap", "cohere"}


@pytest.fixture(params=CASES)
def case(request):
    return request.param


def test_a_folder_gives_the_head_bit_for_bit(case, tmp_path):
    model = tiny_model(case)
    head = read_head(saved(model, tmp_path))
    assert_is_head_of(head, model)
    assert head.tied == (case in TIED)
    assert head.model == str(tmp_path)
    assert head.tokens is None


def test_a_model_in_memory_gives_the_same_as_its_folder(case, tmp_path):
    model = tiny_model(case)
    here, stored = read_head(model), read_head(saved(model, tmp_path))
    assert_is_head_of(here, model)
    assert (here.tied, here.sha256, here.dtype) == (stored.tied, stored.sha256, stored.dtype)
    assert here.rounding == torch.finfo(torch.float32).eps


def test_shards_give_the_same_as_one_file(case, tmp_path):
    model = tiny_model(case)
    one = read_head(saved(model, tmp_path / "one"))
    many = saved(model, tmp_path / "many", max_shard_size="4KB")
    assert len(list(many.glob("*.safetensors"))) > 2
    head = read_head(many)
    assert_is_head_of(head, model)
    assert (head.name, head.tying, head.sha256) == (one.name, one.tying, one.sha256)


def test_a_shard_is_read_with_its_neighbours(tmp_path):
    model = tiny_model("llama")
    folder = saved(model, tmp_path, max_shard_size="4KB")
    for shard in folder.glob("*.safetensors"):
        assert_is_head_of(read_head(shard), model)


def test_only_the_shards_that_are_needed_are_opened(tmp_path):
    model = tiny_model("llama")
    folder = saved(model, tmp_path, max_shard_size="4KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {index["lm_head.weight"], index["model.embed_tokens.weight"]}
    for shard in set(index.values()) - needed:
        (folder / shard).write_text("not even a header")
    assert_is_head_of(read_head(folder), model)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_gives_the_head_bit_for_bit(case, tmp_path, zipped):
    model = tiny_model(case)
    model.config.save_pretrained(tmp_path)
    torch.save(
        model.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped
    )
    head = read_head(tmp_path)
    assert_is_head_of(head, model)
    assert head.tied == (case in TIED)
    assert head.sha256 == read_head(model).sha256


def test_sharded_pickles_are_read(tmp_path):
    model = tiny_model("phi")
    model.config.save_pretrained(tmp_path)
    index = {}
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        index[name] = f"pytorch_model-{number}.bin"
        torch.save({name: tensor}, tmp_path / index[name])
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    assert_is_head_of(read_head(tmp_path), model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_storage_type_is_kept(tmp_path, dtype):
    model = tiny_model("llama").to(dtype)
    head = read_head(saved(model, tmp_path))
    assert_is_head_of(head, model)
    assert head.dtype == str(dtype).removeprefix("torch.")
    assert head.rounding == torch.finfo(dtype).eps


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gpt-neox", "phi"])
def test_a_missing_or_additional_prefix_does_not_matter(name, tmp_path):
    """As gpt2 on the hub, whose names lack `transformer.`, or a vision model's language part."""
    model = tiny_model(name)
    saved(model, tmp_path)
    for rename in (
        lambda k: k if k.startswith(("lm_head", "embed_out")) else k.partition(".")[2],
        lambda k: f"language_model.{k}",
    ):
        other = tmp_path / "other"
        shutil.copytree(tmp_path, other, ignore=lambda *_: ["other"])
        edit_tensors(other, lambda tensors, f=rename: {f(k): v for k, v in tensors.items()})
        head = read_head(other)
        assert_is_head_of(head, model)
        assert head.tied == (name in TIED)
        shutil.rmtree(other)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt-neox", "phi", "opt"])
def test_a_lone_file_is_read_by_its_names(name, tmp_path):
    model = tiny_model(name)
    saved(model, tmp_path)
    (tmp_path / "config.json").unlink()
    head = read_head(tmp_path / "model.safetensors")
    assert_is_head_of(head, model)
    assert head.tied == (name in TIED)


def test_a_file_with_one_matrix_is_that_matrix(tmp_path):
    weight = torch.randn(V, D)
    save_file({"anything": weight, "scalar": torch.ones(3)}, tmp_path / "a.safetensors")
    head = read_head(tmp_path / "a.safetensors")
    assert torch.equal(head.weight, weight)
    assert head.name == "anything"
    assert not head.tied


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_training_checkpoint_is_unwrapped(tmp_path, wrapper):
    weight = torch.randn(V, D)
    torch.save({wrapper: {"lm_head.weight": weight}, "step": 3}, tmp_path / "a.bin")
    assert torch.equal(read_head(tmp_path / "a.bin").weight, weight)


# What is refused


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_no_numbers_are_refused(tmp_path, value, dtype):
    model = tiny_model("llama").to(dtype)
    model.lm_head.weight.data[17, 3:5] = value
    with pytest.raises(WideneckError, match=r"lm_head\.weight holds 2 NaN .* row 17 of 96"):
        read_head(model)
    with pytest.raises(WideneckError, match=r"lm_head\.weight holds 2 NaN .* row 17 of 96"):
        read_head(saved(model, tmp_path))


def test_a_bias_that_is_no_number_is_refused():
    model = tiny_model("phi")
    model.lm_head.bias.data[5] = torch.nan
    with pytest.raises(WideneckError, match=r"The bias of .* 1 NaN .* row 5"):
        read_head(model)


def test_a_missing_bias_is_refused(tmp_path):
    saved(tiny_model("phi"), tmp_path)
    edit_tensors(tmp_path, without("lm_head.bias"))
    with pytest.raises(WideneckError, match=r"no lm_head\.bias"):
        read_head(tmp_path)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.zeros(0, D), "empty"),
        (torch.zeros(D, V), "fewer rows than columns"),
        (torch.zeros(V, D, 2), r"should be a matrix \(vocabulary"),
        (torch.zeros(V, D, dtype=torch.int8), "quantized form"),
        (torch.zeros(V, D, dtype=torch.float8_e4m3fn), "quantized form"),
    ],
)
def test_what_is_no_head_is_refused(tmp_path, weight, message):
    save_file({"lm_head.weight": weight}, tmp_path / "a.safetensors")
    with pytest.raises(WideneckError, match=message):
        read_head(tmp_path / "a.safetensors")


def test_a_transposed_head_is_refused(tmp_path):
    def transpose(tensors):
        tensors["lm_head.weight"] = tensors["lm_head.weight"].T.contiguous()

    saved(tiny_model("llama"), tmp_path)
    edit_tensors(tmp_path, transpose)
    with pytest.raises(WideneckError, match=r"lm_head\.weight has shape \(16, 96\).*transposed"):
        read_head(tmp_path)


def test_a_config_of_another_vocabulary_is_refused(tmp_path):
    saved(tiny_model("llama"), tmp_path)
    edit_config(tmp_path, vocab_size=100)
    with pytest.raises(WideneckError, match="do not belong together"):
        read_head(tmp_path)


def test_ambiguous_names_are_refused(tmp_path):
    def double(tensors):
        head = tensors.pop("lm_head.weight")
        return tensors | {"a.lm_head.weight": head, "b.lm_head.weight": head + 1}

    saved(tiny_model("llama"), tmp_path)
    edit_tensors(tmp_path, double)
    with pytest.raises(WideneckError, match=r"a\.lm_head\.weight, b\.lm_head\.weight"):
        read_head(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder model \\(t5\\)"),
        ({"model_type": "t5"}, "encoder-decoder model \\(t5\\)"),
        ({"model_type": "clip"}, "a clip model"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "saved as BertModel"),
        ({"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"]}, "saved as"),
    ],
)
def test_models_without_a_causal_head_are_refused(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"shared.weight": torch.zeros(V, D)}, tmp_path / "model.safetensors")
    with pytest.raises(WideneckError, match=message):
        read_head(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "never-heard-of", "vocab_size": V, "tie_word_embeddings": True},
        {"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}, "vocab_size": V},
        {"text_config": {"vocab_size": V}},
    ],
)
def test_an_unknown_architecture_is_read_by_its_names(tmp_path, config):
    model = tiny_model("llama")
    saved(model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["OwnLM"]}))
    head = read_head(tmp_path)
    assert_is_head_of(head, model)
    assert not head.tied
    assert ("config.json says tied" in head.tying) == ("tie_word_embeddings" in config)


def vision_model(name):
    small = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"hidden_size": 16, "image_size": 28, "patch_size": 14, **small}
    mrope = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}}
    torch.manual_seed(0)
    if name == "llava":
        return tr.LlavaForConditionalGeneration(
            tr.LlavaConfig(
                text_config=tr.LlamaConfig(**LLAMA), vision_config=tr.CLIPVisionConfig(**vision)
            )
        )
    if name == "gemma3":
        return tr.Gemma3ForConditionalGeneration(
            tr.Gemma3Config(text_config={**LLAMA, "head_dim": 8}, vision_config=vision)
        )
    return tr.Qwen2VLForConditionalGeneration(
        tr.Qwen2VLConfig(
            text_config=LLAMA | mrope,
            vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2},
        )
    )


@pytest.mark.parametrize(
    ("name", "tied"), [("llava", False), ("gemma3", True), ("qwen2-vl", False)]
)
def test_a_vision_model_is_read_by_its_text_part(tmp_path, name, tied):
    model = vision_model(name)
    head = read_head(saved(model, tmp_path))
    assert_is_head_of(head, model)
    assert head.tied == read_head(model).tied == tied


def test_a_bias_is_found_where_the_matrix_is_tied(tmp_path):
    """CTRL ties its matrix; its bias is stored under the head's name, not the embedding's."""
    torch.manual_seed(0)
    model: Any = tr.CTRLLMHeadModel(
        tr.CTRLConfig(vocab_size=V, n_embd=D, dff=32, n_layer=1, n_head=2, n_positions=64)
    )
    model.lm_head.bias.data.normal_()
    head = read_head(saved(model, tmp_path))
    assert_is_head_of(head, model)
    assert head.tied


def test_an_embedding_with_more_rows_than_the_head_is_another_matrix(tmp_path):
    """As Moshi's, whose input has one token more."""

    def longer(tensors):
        return {k.replace("lm_head", "output"): v for k, v in tensors.items()} | {
            "model.embed_tokens.weight": torch.zeros(V + 1, D)
        }

    model = tiny_model("llama")
    saved(model, tmp_path)
    (tmp_path / "config.json").unlink()
    edit_tensors(tmp_path, longer)
    head = read_head(tmp_path)
    assert_is_head_of(head, model)
    assert not head.tied


def test_a_module_without_a_head_is_refused():
    with pytest.raises(WideneckError, match="Linear names no output embedding"):
        read_head(torch.nn.Linear(3, 4))
    with pytest.raises(WideneckError, match="LlamaModel names no output embedding"):
        read_head(tiny_model("llama").model)
    with pytest.raises(WideneckError, match="meta device"):
        read_head(tiny_model("llama").to("meta"))


def test_equal_tensors_have_equal_hashes_in_every_format(tmp_path):
    model = tiny_model("llama")
    tensors = {"lm_head.weight": model.lm_head.weight.data}
    torch.save(tensors, tmp_path / "a.bin")
    save_file(tensors, tmp_path / "a.safetensors")
    hashes = {read_head(x).sha256 for x in (model, tmp_path / "a.bin", tmp_path / "a.safetensors")}
    assert hashes == {hashlib.sha256(tensors["lm_head.weight"].numpy().tobytes()).hexdigest()}
