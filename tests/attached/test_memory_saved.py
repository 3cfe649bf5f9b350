"""A model with a memory on disk."""

import json

import pytest
import torch
import transformers as tr
from remembering import ENCODER_DECODERS, MODELS, prompts, remembering

import wideneck as wn
from wideneck.errors import WideneckError


def scores(model):
    options = {"max_new_tokens": 4, "output_scores": True, "return_dict_in_generate": True}
    return torch.stack(model.generate(**prompts(), **options, do_sample=False).scores)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_loaded_bit_for_bit(name, tmp_path):
    model = remembering(name, window=None if name in ENCODER_DECODERS else 5, alpha=0.5)
    model.cache_memory.bias.data.fill_(-0.5)  # as if it had been trained
    model.save_pretrained(tmp_path)

    loaded = wn.load(tmp_path)

    assert loaded.cache_memory.config == model.cache_memory.config
    assert torch.equal(loaded.cache_memory.bias, model.cache_memory.bias)
    assert torch.equal(scores(loaded), scores(model))


def test_the_auto_classes_load_it_too(tmp_path):
    for name, auto in (("llama", tr.AutoModelForCausalLM), ("bart", tr.AutoModelForSeq2SeqLM)):
        model = remembering(name)
        model.save_pretrained(tmp_path / name)
        assert torch.equal(scores(auto.from_pretrained(tmp_path / name)), scores(model))


def test_half_precision_leaves_the_learned_numbers_alone(tmp_path):
    remembering("llama", temperature=0.1234567).save_pretrained(tmp_path)
    loaded = wn.load(tmp_path, dtype=torch.bfloat16)
    assert loaded.cache_memory.log_temperature.dtype == torch.float32
    assert loaded.cache_memory.log_temperature.exp().item() == pytest.approx(0.1234567, rel=1e-6)


def test_a_warm_up_goes_on_where_it_was(tmp_path):
    model = remembering("llama", warmup_batches=3).train()
    model(**prompts(), labels=prompts()["input_ids"])
    model.save_pretrained(tmp_path)
    assert wn.load(tmp_path).cache_memory.num_batches.item() == 1


def edited(folder, change):
    remembering("llama").save_pretrained(folder)
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw.pop("memory"), "holds the tensors of a memory.*says nothing of one"),
        (lambda raw: raw["memory"].update(alpah=1), "alpah.*Did you mean 'alpha'"),
        (lambda raw: raw["memory"].pop("bias"), "needs a temperature and a bias"),
        (lambda raw: raw.update(memory=3), "Expected a wideneck.Memory or its dictionary, got int"),
    ],
)
def test_a_memory_without_its_config_is_refused(change, sentence, tmp_path):
    edited(tmp_path, change)
    with pytest.raises(WideneckError, match=sentence):
        wn.load(tmp_path)
