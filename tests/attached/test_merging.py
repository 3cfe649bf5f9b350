"""`merged`: a plain model of transformers again, which predicts what the head did."""

import copy
import json
import subprocess
import sys

import pytest
import torch
import transformers as tr
from attachable import attached, shaken, token_ids

import wideneck as wn
from tiny import CASES, LLAMA, tiny_model

PLANS = ("_tp_plan", "_pp_plan", "_keep_in_fp32_modules_strict", "loss_type")
MERGED = [(case, "softmax", {}) for case in CASES]
MERGED += [(case, "scaled_softmax", {}) for case in ("llama", "granite", "phi")]
MERGED += [(case, "low_rank", {"rank": 5}) for case in ("llama-tied", "granite", "phi", "gpt2")]
MERGED += [("gemma2", "softcap", {})]


def trained(case, head, options):
    return shaken(attached(case, head, **options)).eval()


@pytest.mark.parametrize(("case", "head", "options"), MERGED)
@torch.no_grad()
def test_it_predicts_what_the_head_did_as_a_plain_model(case, head, options, tmp_path):
    model, plain, ids = trained(case, head, options), tiny_model(case), token_ids()
    embedding = model.get_input_embeddings().weight.clone()
    want = model(ids).logits

    assert wn.merged(model) is model

    found = model(ids).logits.log_softmax(-1)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)
    assert type(model) is type(plain)
    assert type(model.get_output_embeddings()) is torch.nn.Linear
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert {name: getattr(model, name) for name in PLANS} == {
        name: getattr(plain, name) for name in PLANS
    }
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == plain.config.model_type
    assert not (tmp_path / "README.md").exists()
    again = type(plain).from_pretrained(tmp_path)
    assert again.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(again(ids).logits, model(ids).logits)
    tied = again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert tied == (plain.config.tie_word_embeddings and head != "low_rank")
    assert config.get("tie_word_embeddings", plain.config.tie_word_embeddings) == tied


READ = """
import sys, torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
assert not any(name.startswith("wideneck") for name in sys.modules)
torch.save(model(torch.arange(3, 15)[None]).logits.log_softmax(-1), sys.argv[2])
"""


@torch.no_grad()
def test_a_process_without_wideneck_reads_it(tmp_path):
    model = trained("llama-tied", "low_rank", {"rank": 5})
    model.save_pretrained(tmp_path / "ours")
    loaded = wn.load(tmp_path / "ours")
    want = loaded(torch.arange(3, 15)[None]).logits
    wn.merged(loaded).save_pretrained(tmp_path / "plain")
    command = [sys.executable, "-c", READ, tmp_path / "plain", tmp_path / "logits.pt"]
    subprocess.run(command, check=True, capture_output=True)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), want, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_scale_leaves_the_embedding_alone_and_says_that_the_tie_is_cut(tmp_path):
    model, ids = attached("llama-tied", "scaled_softmax"), token_ids()
    model.lm_head.activation.scale.fill_(0.8)
    embedding, want = model.get_input_embeddings().weight.clone(), model(ids).logits
    with pytest.warns(UserWarning, match="a matrix of its own, 0.8 times the embedding"):
        wn.merged(model)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    torch.testing.assert_close(model.lm_head.weight, embedding * 0.8)
    torch.testing.assert_close(model(ids).logits.log_softmax(-1), want)
    model.save_pretrained(tmp_path)
    again = tr.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not again.config.tie_word_embeddings
    assert torch.equal(again(ids).logits, model(ids).logits)


@torch.no_grad()
def test_a_scale_of_the_models_own_measured_in_two_dtypes_is_one_and_cuts_no_tie():
    torch.manual_seed(0)
    config = tr.GraniteConfig(**LLAMA, logits_scaling=11.3137, tie_word_embeddings=True)
    model = wn.attach(tr.GraniteForCausalLM(config).eval(), "softmax").bfloat16()
    weight = model.get_input_embeddings().weight.clone()
    wn.merged(model)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.lm_head.weight, weight)


@torch.no_grad()
def test_half_precision_flags_and_modes_are_kept():
    model = attached("llama", "low_rank", rank=5).bfloat16().train()
    model.lm_head.weight.requires_grad_(False)
    product = model.lm_head.weight.double() @ model.lm_head.down.weight.double()
    layer = wn.merged(model).lm_head
    assert torch.equal(layer.weight, product.bfloat16())
    assert not layer.weight.requires_grad
    assert layer.training
    wn.attach(model, "softmax")  # which takes a plain model


def with_memory():
    return wn.attach_memory(tiny_model("llama"))


def with_a_cap_of_its_own():
    model = attached("gemma2", "softcap")
    model.config.final_logit_softcapping = 20.0
    return model


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: attached("llama", "moss"), "has a moss head, which mixes distributions by"),
        (lambda: attached("llama", "moc"), "has a moc head, which mixes contexts by weights"),
        (lambda: attached("llama", "sigsoftmax"), "has a sigsoftmax head, which bends scores: f"),
        (lambda: attached("llama", "gss"), "has a gss head, which bends scores"),
        (lambda: attached("llama", "plif", num_knots=9), "has a plif head, which bends scores"),
        (with_memory, "has a memory, which predicts from the context besides, so no plain model"),
        (lambda: wn.attention.use(attached("llama", "softmax"), "ssmax"), "in its attention"),
        (lambda: tiny_model("llama"), "with a head of wideneck.*this LlamaForCausalLM has none"),
        (lambda: torch.nn.Linear(2, 2), "this Linear has none"),
        (lambda: torch.nn.Sequential(attached("llama", "softmax")), "this Sequential wraps it"),
        (with_a_cap_of_its_own, "caps them at 30, and itself caps its logits at 20"),
    ],
)
def test_what_no_matrix_says_is_refused_and_left_alone(make, sentence):
    model = make()
    before = copy.copy(vars(model)), type(model), dict(model.named_modules())
    with pytest.raises(wn.WideneckError, match=sentence):
        wn.merged(model)
    assert (vars(model), type(model), dict(model.named_modules())) == before
