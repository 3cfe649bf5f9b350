"""A saved folder is opened by our classes, or by none: never as a softmax."""

import json
import subprocess
import sys

import pytest
import torch
import transformers as tr
from attachable import PAIRS, attached, shaken, token_ids

import wideneck as wn
from tiny import LLAMA, tiny_model

ONE_HEAD = {case: head for case, head in PAIRS if head in ("moss", "mos")}


def saved(folder, case="llama", head="moss", **options):
    model = shaken(attached(case, head, **options)).eval()
    model.save_pretrained(folder)
    return model


def to_the_old_layout(folder):
    """As wideneck 0.1.0 first wrote it, for any part."""
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    backbone = raw["backbone"]
    backbone = {"model_type": backbone.pop("backbone_type"), **backbone}
    kept = ("model_type", "head", "logit_scale", "memory", "attention", "dtype")
    old = {key: raw[key] for key in kept if key in raw}
    old |= {"architectures": backbone["architectures"], "backbone": backbone}
    path.write_text(json.dumps(old))


def same(first, second):
    ids = token_ids()
    assert type(first).__name__ == type(second).__name__
    assert torch.equal(first(ids).logits, second(ids).logits)


@pytest.mark.parametrize("case", ONE_HEAD)
def test_the_class_of_the_original_does_not_open_it(case, tmp_path):
    model = saved(tmp_path, case, ONE_HEAD[case])
    original = getattr(tr, type(model).__name__)
    assert original is not type(model)
    with pytest.raises((RuntimeError, ValueError)):
        original.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("what", "sees"),
    [
        (lambda model: wn.attach_memory(model), "memory"),
        (lambda model: wn.attention.use(model, "ssmax"), "attention"),
        (lambda model: wn.attach(model, "sigsoftmax", shift=0.0, learned=False), "head"),
    ],
)
def test_no_part_is_lost_by_a_concrete_class(what, sees, tmp_path):
    model = what(tiny_model("llama"))
    model.save_pretrained(tmp_path)
    assert sees in json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(RuntimeError, match="mismatch"):
        tr.LlamaForCausalLM.from_pretrained(tmp_path)


def test_a_model_in_a_wrapper_has_its_sizes_hidden_where_its_class_looks(tmp_path):
    text = {**LLAMA, "model_type": "llama"}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 1, "image_size": 4, "patch_size": 2}
    config = tr.LlavaConfig(text_config=text, vision_config=vision, image_token_index=2)
    model = wn.attach(tr.LlavaForConditionalGeneration(config), "softmax")
    model.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    sizes = {"hidden_size": 1, "num_attention_heads": 1, "vocab_size": text["vocab_size"]}
    assert raw["text_config"] == sizes
    with pytest.raises(RuntimeError, match="mismatch"):
        tr.LlavaForConditionalGeneration.from_pretrained(tmp_path)


WITHOUT_US = {
    "concrete": "LlamaForCausalLM.from_pretrained(folder)",
    "auto": "AutoModelForCausalLM.from_pretrained(folder)",
    "pipeline": "pipeline('text-generation', folder)",
}


def test_nothing_opens_it_where_wideneck_is_not_imported(tmp_path):
    saved(tmp_path, "llama", "sigsoftmax", shift=0.0, learned=False)
    tries = "\n".join(
        f"try:\n    {call}\n    print({name!r}, 'opened')\nexcept Exception as error:\n"
        f"    print({name!r}, type(error).__name__)"
        for name, call in WITHOUT_US.items()
    )
    names = "LlamaForCausalLM, AutoModelForCausalLM, pipeline"
    code = f"import sys; from transformers import {names}; folder = sys.argv[1]\n{tries}"
    code += "\nassert 'wideneck' not in sys.modules"
    run = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "opened" not in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(WITHOUT_US)


@pytest.mark.parametrize("layout", ["now", "old"])
def test_the_ways_of_others_lead_to_our_class(layout, tmp_path):
    model = saved(tmp_path)
    if layout == "old":
        to_the_old_layout(tmp_path)
    same(wn.load(tmp_path), model)
    config = tr.AutoConfig.from_pretrained(tmp_path)
    # TRL: a class of that name, or what auto_map says, or the Auto class.
    assert getattr(tr, config.architectures[0], None) is None
    assert not config.auto_map
    same(tr.AutoModelForCausalLM.from_pretrained(tmp_path, config=config), model)
    same(tr.AutoModelForCausalLM.from_pretrained(tmp_path, config=config), model)  # once more
    # PEFT, as it saves an adapter.
    if layout == "now":
        assert type(model.config).from_pretrained(tmp_path).vocab_size == 96


@pytest.mark.parametrize("part", ["memory", "attention"])
def test_folders_of_earlier_versions_are_read(part, tmp_path):
    model = tiny_model("llama")
    put = {"memory": wn.attach_memory, "attention": lambda m: wn.attention.use(m, "ssmax")}
    model = put[part](model).eval()
    model.save_pretrained(tmp_path)
    to_the_old_layout(tmp_path)
    same(wn.load(tmp_path), model)


def test_the_config_answers_for_the_original(tmp_path):
    saved(tmp_path / "a", "gpt2", "moss")
    config = tr.AutoConfig.from_pretrained(tmp_path / "a")
    assert (config.vocab_size, config.hidden_size, config.n_embd) == (96, 16, 16)
    assert (config.eos_token_id, config.is_encoder_decoder) == (1, False)
    assert config.get_text_config().model_type == "gpt2"
    assert not hasattr(config, "no_such_thing")


def test_the_config_alone_is_written_as_it_was_read(tmp_path):
    model = saved(tmp_path / "a")
    config = tr.AutoConfig.from_pretrained(tmp_path / "a")
    tr.AutoModelForCausalLM.from_pretrained(tmp_path / "a", config=config)
    config.save_pretrained(tmp_path / "b")
    first, second = (json.loads((tmp_path / x / "config.json").read_text()) for x in "ab")
    assert first == second
    model.save_pretrained(tmp_path / "b")
    same(wn.load(tmp_path / "b"), model)


def test_from_config_makes_the_model_with_its_parts(tmp_path):
    model = saved(tmp_path)
    config = tr.AutoConfig.from_pretrained(tmp_path)
    made = [tr.AutoModelForCausalLM.from_config(config) for _ in range(2)]
    with torch.device("meta"):
        made.append(tr.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16))
    for other in made:
        assert type(other) is type(model)
        assert other.lm_head.config == model.lm_head.config
        assert [n for n, _ in other.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert made[2].lm_head.weight.is_meta
    made[0].load_state_dict(model.state_dict())
    same(made[0].eval(), model)


def test_a_pipeline_generates_what_the_model_does(tmp_path):
    model = saved(tmp_path, "llama", "sigsoftmax", shift=0.0)
    loaded = tr.pipeline("text-generation", str(tmp_path), tokenizer=_tokenizer()).model
    same(loaded, model)


def _tokenizer():
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(96)}, unk_token="w0"))
    return tr.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w2")
