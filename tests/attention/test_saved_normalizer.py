"""What `save_pretrained` writes of a model under a normalizer, `load` reads bit for bit."""

import json
import subprocess
import sys

import pytest
import torch
import transformers as tr
from safetensors.torch import load_file, save_file
from usable import logits, shaken, tiny, token_ids, used

import wideneck as wn
from wideneck.attention import use
from wideneck.attention.config import SSMax, to_dict

SAVED = ["sink", "ssmax", "entmax", "asentmax", "sparsemax", "topk", "sigmoid"]


def saved(folder, name="ssmax", model="llama", head=None, **options):
    made = used(model, name)
    if head is not None:
        wn.attach(made, head)
    shaken(made).save_pretrained(folder, **options)
    return made


def assert_same(loaded, made):
    ours, theirs = loaded.state_dict(), made.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(ours[name].dtype == theirs[name].dtype for name in theirs)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(logits(loaded, token_ids()), logits(made, token_ids()))
    assert type(loaded) is type(made)


@pytest.mark.parametrize(("model", "head"), [("llama", "moss"), ("gpt2", None)])
@pytest.mark.parametrize("name", SAVED)
def test_a_saved_model_is_loaded_bit_for_bit(name, model, head, tmp_path):
    made = saved(tmp_path, name, model, head)
    assert_same(wn.load(tmp_path), made)
    assert_same(tr.AutoModelForCausalLM.from_pretrained(tmp_path), made)


@pytest.mark.parametrize("name", ["ssmax", "asentmax"])
def test_a_second_round_changes_nothing(name, tmp_path):
    made = saved(tmp_path / "a", name)
    wn.load(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert_same(wn.load(tmp_path / "b"), made)
    first, second = ((tmp_path / x / "config.json").read_text() for x in "ab")
    assert first == second


def test_shards_load_too(tmp_path):
    made = saved(tmp_path, "asentmax", max_shard_size="9KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same(wn.load(tmp_path), made)


def test_the_file_names_the_normalizer_and_its_layers(tmp_path):
    saved(tmp_path / "a")
    raw = json.loads((tmp_path / "a" / "config.json").read_text())
    assert raw["model_type"] == "wideneck"
    assert raw["architectures"] == ["WideneckForCausalLM"]
    assert "head" not in raw
    assert raw["attention"] == {
        "normalizer": to_dict(SSMax(scale=0.4, bias=0.3)),
        "modules": [{"name": f"model.layers.{i}.self_attn", "num_heads": 4} for i in range(2)],
    }
    assert "wideneck" not in json.dumps(raw["backbone"])

    saved(tmp_path / "b", "asentmax")
    raw = json.loads((tmp_path / "b" / "config.json").read_text())
    assert raw["attention"]["modules"][1]["hidden_size"] == 32


def test_under_a_softmax_the_folder_is_the_plain_original(tmp_path):
    tiny("llama").save_pretrained(tmp_path / "plain")
    use(used("llama", "ssmax"), "softmax").save_pretrained(tmp_path / "restored")
    for name in ("config.json", "model.safetensors"):
        first, second = ((tmp_path / x / name).read_bytes() for x in ("plain", "restored"))
        assert first == second
    with pytest.raises(wn.WideneckError, match="holds a llama model without a head or normalizer"):
        wn.load(tmp_path / "plain")


def test_with_a_head_the_softmax_leaves_the_head(tmp_path):
    made = use(wn.attach(used("llama", "ssmax"), "softmax"), "softmax")
    made.save_pretrained(tmp_path)
    assert "attention" not in json.loads((tmp_path / "config.json").read_text())
    assert_same(wn.load(tmp_path), made)


@pytest.mark.parametrize("name", ["ssmax", "entmax", "asentmax"])
def test_learned_numbers_stay_wide_in_half_precision(name, tmp_path):
    made = saved(tmp_path / "a", name)
    half = wn.load(tmp_path / "a", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    learned = {k: v for k, v in half.state_dict().items() if ".normalizer." in k}
    assert learned
    for key, value in learned.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, made.state_dict()[key])
    half.save_pretrained(tmp_path / "half")
    again = wn.load(tmp_path / "half")
    assert again.dtype == torch.bfloat16
    assert_same(again, half)


def test_a_loaded_model_can_change_its_normalizer_and_train(tmp_path):
    made = saved(tmp_path)
    loaded, ids = wn.load(tmp_path, attn_implementation="eager"), token_ids()
    loaded.train()(input_ids=ids, labels=ids).loss.backward()
    assert loaded.model.layers[0].self_attn.normalizer.scale.grad.abs().min() > 0
    use(loaded.eval(), "sparsemax")
    assert torch.equal(logits(loaded, ids), logits(use(made, "sparsemax"), ids))
    use(loaded, "softmax")
    assert type(loaded) is tr.LlamaForCausalLM
    assert loaded.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(loaded, ids), logits(tiny("llama"), ids))
    prompt = ids[:, :4]
    assert loaded.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2).numel()


def test_a_vocabulary_can_be_resized(tmp_path):
    made = used("llama", "ssmax")
    made.resize_token_embeddings(101)
    made.save_pretrained(tmp_path)
    assert_same(wn.load(tmp_path), made)


def test_transformers_alone_refuses_the_folder(tmp_path):
    saved(tmp_path)
    code = "import sys; from transformers import AutoModelForCausalLM as A; "
    code += "A.from_pretrained(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "wideneck" in result.stderr


def damage(folder, change):
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def module(raw):
    return raw["attention"]["modules"][0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw.pop("attention"), "needs 'head', which is missing"),
        (lambda raw: raw.update(attention=3), "names no 'normalizer'"),
        (lambda raw: raw["attention"].pop("normalizer"), "names no 'normalizer'"),
        (lambda raw: raw["attention"]["normalizer"].update(name="ssmx"), "Did you mean 'ssmax'"),
        (lambda raw: raw["attention"]["normalizer"].update(size=3), "No option of normalizer"),
        (lambda raw: raw["attention"]["normalizer"].update(scale="a"), "needs a finite number"),
        (lambda raw: raw["attention"].pop("modules"), "needs 'modules'"),
        (lambda raw: raw["attention"].update(modules=[]), "needs 'modules'"),
        (lambda raw: raw["attention"].update(modules=["x"]), "needs a name and whole numbers"),
        (lambda raw: module(raw).pop("name"), "needs a name and whole numbers"),
        (lambda raw: module(raw).update(num_heads=True), "whole numbers for num_heads"),
        (lambda raw: module(raw).update(name="model.layers.7.self_attn"), "has no attention layer"),
        (lambda raw: module(raw).update(num_heads=3), "cannot be loaded"),
        (lambda raw: raw.update(head={}), "needs 'head'"),
        (
            lambda raw: raw["attention"].update(normalizer={"name": "asentmax"}),
            "num_heads and hidden_size",
        ),
    ],
)
def test_a_damaged_config_is_refused(change, sentence, tmp_path):
    saved(tmp_path)
    damage(tmp_path, change)
    with pytest.raises(wn.WideneckError, match=sentence):
        wn.load(tmp_path)


def test_missing_numbers_are_refused(tmp_path):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.self_attn.normalizer.scale"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(wn.WideneckError, match=r"lacks 1 .*layers.1.self_attn.normalizer.scale"):
        wn.load(tmp_path)


def test_a_saved_number_of_a_model_that_learns_nothing_is_not_needed(tmp_path):
    made = use(tiny("llama"), "ssmax", learned=False)
    made.save_pretrained(tmp_path)
    assert not [key for key in made.state_dict() if "normalizer" in key]
    assert_same(wn.load(tmp_path), made)
