"""What `save_pretrained` writes, `load` reads bit for bit, or refuses."""

import json
import math

import pytest
import torch
import transformers as tr
from attachable import SOME_PAIRS, attached, shaken, token_ids
from safetensors.torch import load_file, save_file

import wideneck as wn


def saved(folder, case="llama", head="moss", **options):
    model = shaken(attached(case, head))
    model.save_pretrained(folder, **options)
    return model


def assert_same(loaded, model):
    ours, theirs = loaded.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert loaded.lm_head.config == model.lm_head.config
    prompt = token_ids(shape=(1, 5))
    options = {"max_new_tokens": 4, "output_scores": True, "return_dict_in_generate": True}
    options["attention_mask"] = torch.ones_like(prompt)
    first, second = (each.generate(prompt, **options) for each in (model, loaded))
    assert torch.equal(first.sequences, second.sequences)
    assert all(torch.equal(*pair) for pair in zip(first.scores, second.scores, strict=True))


@pytest.mark.parametrize(("case", "head"), SOME_PAIRS)
def test_a_saved_model_is_loaded_bit_for_bit(case, head, tmp_path):
    model = saved(tmp_path, case, head)
    assert_same(wn.load(tmp_path), model)


def test_shards_and_auto_classes_load_too(tmp_path):
    model = saved(tmp_path, "llama-tied", "moss", max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same(wn.load(tmp_path), model)
    assert_same(tr.AutoModelForCausalLM.from_pretrained(tmp_path), model)


def test_a_second_round_changes_nothing(tmp_path):
    model = saved(tmp_path / "a")
    wn.load(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert_same(wn.load(tmp_path / "b"), model)
    first, second = ((tmp_path / x / "config.json").read_text() for x in "ab")
    assert first == second


def test_the_generation_config_and_options_are_kept(tmp_path):
    model = attached("llama", "sigsoftmax")
    model.generation_config.max_new_tokens = 3
    model.save_pretrained(tmp_path)
    loaded = wn.load(tmp_path, attn_implementation="eager", output_hidden_states=True)
    assert loaded.generation_config.max_new_tokens == 3
    assert loaded.config._attn_implementation == "eager"
    states = loaded(input_ids=token_ids()).hidden_states
    assert torch.equal(states[-1], loaded.model(token_ids()).last_hidden_state)
    assert type(loaded.config) is tr.LlamaConfig
    assert loaded.config.name_or_path == str(tmp_path)
    assert not loaded.training


def test_the_dtype_is_the_one_asked_for_and_learned_numbers_stay_wide(tmp_path):
    saved(tmp_path)
    loaded = wn.load(tmp_path, dtype=torch.bfloat16)
    assert loaded.dtype == loaded.lm_head.projections.prior.weight.dtype == torch.bfloat16
    assert loaded.lm_head.activation.shift.dtype == torch.float32
    assert wn.load(tmp_path, dtype=torch.float64).lm_head.weight.dtype == torch.float64

    loaded.save_pretrained(tmp_path / "half")
    half = wn.load(tmp_path / "half")
    assert_same(half, loaded)
    assert half.dtype == torch.bfloat16


def test_the_file_says_which_head_and_the_live_config_does_not(tmp_path):
    model = saved(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["model_type"] == "wideneck"
    assert raw["architectures"] == ["WideneckForCausalLM"]
    assert raw["backbone"]["backbone_type"] == "llama"
    assert raw["backbone"]["architectures"] == ["LlamaForCausalLM"]
    assert "model_type" not in raw["backbone"]
    assert wn.config.head_config(raw["head"]) == model.lm_head.config
    assert "save_pretrained" not in vars(model.config)
    assert model.config.model_type == "llama"


def test_a_save_that_breaks_leaves_the_config_usable(tmp_path):
    model = attached("llama", "softmax")
    with pytest.raises(TypeError):
        model.save_pretrained(tmp_path, max_shard_size=object())
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "wideneck"
    assert "save_pretrained" not in vars(model.config)


def damage(folder, change):
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw.pop("head"), "needs 'head', which is missing"),
        (lambda raw: raw.pop("backbone"), "needs 'backbone'"),
        (lambda raw: raw.update(architectures=[]), "needs 'architectures'"),
        (lambda raw: raw["head"].update(name="sigsoftmx"), "Did you mean 'sigsoftmax'"),
        (lambda raw: raw["head"].update(size=3), "No option of head 'moss' is called 'size'"),
        (lambda raw: raw.update(logit_scale="big"), "logit_scale in config.json is a number"),
        (lambda raw: raw.update(logit_scale=math.nan), "other than 0 and finite, got nan"),
        (lambda raw: raw.update(logit_scale=-math.inf), "other than 0 and finite, got -inf"),
        (lambda raw: raw["backbone"].update(num_hidden_layers=10**9), "which no model has"),
        (lambda raw: raw["backbone"].pop("architectures"), "'architectures' of its 'backbone'"),
        (lambda raw: raw["backbone"].update(backbone_type="lama"), "knows no model type 'lama'"),
        (lambda raw: raw["backbone"].update(architectures=["Lama"]), "has no class 'Lama'"),
        (lambda raw: raw["backbone"].update(vocab_size=7), "cannot be loaded"),
    ],
)
def test_a_damaged_config_is_refused(change, sentence, tmp_path):
    saved(tmp_path)
    damage(tmp_path, change)
    with pytest.raises(wn.WideneckError, match=sentence):
        wn.load(tmp_path)


def test_missing_tensors_are_refused(tmp_path):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["lm_head.projections.prior.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    for loader in (wn.load, tr.AutoModelForCausalLM.from_pretrained):
        with pytest.raises(wn.WideneckError, match=r"lacks 1 .*lm_head.projections.prior.weight"):
            loader(tmp_path)


def test_a_cut_off_file_is_refused(tmp_path):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(wn.WideneckError, match="its header cannot be read"):
        wn.load(tmp_path)


def test_what_is_no_saved_model_is_refused(tmp_path):
    with pytest.raises(wn.WideneckError, match="holds no model weights"):
        wn.load(tmp_path)
    tr.LlamaForCausalLM(
        tr.LlamaConfig(
            num_hidden_layers=1,
            hidden_size=8,
            vocab_size=9,
            intermediate_size=8,
            num_attention_heads=1,
        )
    ).save_pretrained(tmp_path)
    with pytest.raises(wn.WideneckError, match="holds a llama model without a head"):
        wn.load(tmp_path)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_kernels_are_the_users_choice_and_not_the_folders(key, tmp_path):
    saved(tmp_path)
    damage(tmp_path, lambda raw: raw["backbone"].update({key: "evil/kernel"}))
    assert wn.load(tmp_path).config._attn_implementation == "sdpa"
    chosen = wn.load(tmp_path, attn_implementation="eager")
    assert chosen.config._attn_implementation == "eager"
