"""What is stored and not used would make the measured model another one."""

import pytest
import torch
import transformers as tr

from checkpoints import edit_config, edit_tensors, saved
from tiny import LLAMA, tiny_model
from wideneck.errors import WideneckError
from wideneck.models.language_model import load_language_model

TOKENIZER = object()


@pytest.fixture(autouse=True)
def no_bos(monkeypatch):
    monkeypatch.setattr("wideneck.models.language_model.bos_of", lambda tokenizer: [])


def load(folder):
    return load_language_model(folder, tokenizer=TOKENIZER).model


def holding(folder, *names, case="llama", shape=(2,)):
    saved(tiny_model(case), folder)
    edit_tensors(folder, lambda tensors: tensors | {name: torch.ones(shape) for name in names})
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.self_attn.masked_bias",
        "model.layers.0.self_attn.rotary.inv_freq",
        "model.freqs_cis",
        "model.embed_positions._float_tensor",
        "model.layers.0.self_attn.kv_scale",
        "model.vision_tower.layers.0.weight",
        "multi_modal_projector.linear.weight",
        "mtp.layers.0.weight",
        "score.weight",
        "v_head.summary.weight",
    ],
)
def test_what_adds_nothing_to_the_logits_may_stay_unused(tmp_path, name):
    load(holding(tmp_path, name))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("model.layers.1.mlp.up_proj.weight", "makes 1 of these layers"),
        ("model.layers.0.self_attn.q_proj.bias", "no place for it"),
        ("model.layers.0.self_attn.q_norm.weight", "no place for it"),
        ("model.norm.bias", "no place for it"),
        ("model.wpe.weight", "no place for it"),
        ("lm_head.bias", "no place for it"),
    ],
)
def test_what_the_config_does_not_name_is_refused_by_name(tmp_path, name, why):
    with pytest.raises(WideneckError, match=f"holds {name.replace('.', '[.]')}, and .*{why}"):
        load(holding(tmp_path, name))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_fewer_layers_in_the_config_than_in_the_file_are_refused(tmp_path, layers):
    torch.manual_seed(0)
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA | {"num_hidden_layers": 3}))
    edit_config(saved(model, tmp_path), num_hidden_layers=layers)
    with pytest.raises(WideneckError, match=f"makes {layers} of these layers"):
        load(tmp_path)


def test_layers_that_only_draft_are_no_layers_of_the_model(tmp_path):
    holding(tmp_path, "model.layers.1.mlp.up_proj.weight")
    edit_config(tmp_path, num_nextn_predict_layers=1)
    load(tmp_path)


def test_names_without_the_prefix_are_judged_alike(tmp_path):
    saved(tiny_model("gpt2").transformer, tmp_path)
    edit_config(tmp_path, architectures=["GPT2LMHeadModel"])
    edit_tensors(tmp_path, lambda tensors: tensors | {"h.1.ln_1.weight": torch.ones(16)})
    with pytest.raises(WideneckError, match=r"holds h\.1\.ln_1\.weight.* makes 1 of these layers"):
        load(tmp_path)


def test_another_shape_is_refused_with_both(tmp_path):
    edit_config(saved(tiny_model("llama"), tmp_path), intermediate_size=48)
    shapes = r"holds model\.layers\.0\.mlp\.\w+\.weight of shape \((16, 32|32, 16)\), .*48"
    with pytest.raises(WideneckError, match=shapes):
        load(tmp_path)


def test_an_adapter_beside_the_weights_is_refused(tmp_path):
    """With PEFT installed, transformers would load the adapter's base in place of this model."""
    folder = saved(tiny_model("llama"), tmp_path)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}')
    with pytest.raises(WideneckError, match="move the adapter to a folder of its own"):
        load(folder)
