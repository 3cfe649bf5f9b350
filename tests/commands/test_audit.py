"""The whole audit on tiny models saved to disk."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

import wideneck as wn
from tiny import CASES, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.errors import WideneckError


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def saved(tmp_path):
    def save(name):
        folder = tmp_path / name
        tiny_model(name).save_pretrained(folder)
        character_tokenizer(bos=True).save_pretrained(folder)
        return folder

    return save


def finite(value):
    """Every number below `value` is finite."""
    if isinstance(value, dict):
        return all(finite(v) for v in value.values())
    if isinstance(value, list):
        return all(finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_is_audited_whole(saved, text, name):
    report = wn.audit(saved(name), text, num_tokens=512)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    model, expected = tiny_model(name), CASES[name][1]
    weight = model.get_output_embeddings().weight
    assert (found["head"]["vocab_size"], found["head"]["hidden_size"]) == tuple(weight.shape)
    same = weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert found["head"]["tied"] == same
    assert found["output"]["logit_map"]["kind"] == expected.kind
    assert found["head"]["argmaxable"]["undecided"] == []
    assert found["head"]["has_bias"] == (name == "phi")
    assert finite(found)
    singular = torch.linalg.svdvals(weight.detach().double())
    assert found["head"]["spectrum"]["raw"]["singular_values"] == pytest.approx(singular.tolist())


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "phi", "opt"])
def test_attention_of_a_saved_model_fits_its_context(saved, text, name):
    report = wn.audit(saved(name), text, sections=["attention"], normalizers=["sink", "entmax15"])
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (found["head"], found["output"]) == (None, None)
    attention = found["attention"]
    assert (attention["context"], attention["num_layers"], attention["num_heads"]) == (64, 1, 2)
    assert [point["size"] for point in attention["by_size"]] == [1, 5, 10, 20]
    assert [point["normalizer"] for point in attention["comparison"]][1:] == [
        "sink (logit 0)",
        "entmax15",
    ]
    assert finite(found)
    report.to_html_text()


@pytest.mark.parametrize("name", CASES)
def test_memory_of_a_saved_model_is_measured_at_every_depth(saved, text, name):
    report = wn.audit(saved(name), text, "memory", num_tokens=256)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (found["head"], found["output"], found["attention"]) == (None, None, None)
    layers = [layer["layer"] for layer in found["memory"]["layers"]]
    assert layers == ["embeddings", "layer 1", "entering the head"]
    assert len(found["memory"]["gain"]["caches"]) == 7
    assert found["provenance"]["num_tokens"] == found["memory"]["num_tokens"]
    assert finite(found)
    report.to_html_text()


def test_memory_does_not_move_what_the_output_section_measures(saved, text):
    folder = saved("gpt2")
    alone = wn.audit(folder, text, "output", num_tokens=256)
    both = wn.audit(folder, text, ("output", "memory"), num_tokens=256)
    assert both.output == alone.output
    assert both.provenance.num_tokens == alone.provenance.num_tokens


def test_memory_of_one_window_has_no_caches_and_says_why(saved, text):
    memory = wn.audit(saved("llama"), text, "memory", num_tokens=1).memory
    assert memory.gain.caches == []
    assert "one window" in memory.gain.skipped
    assert memory.recurrence.elsewhere is None
    assert memory.layers


def test_memory_of_windows_of_one_prediction_ranks_nothing(saved, text):
    model = tiny_model("gpt2")
    model.config.n_positions = 1
    tokenizer = character_tokenizer()
    report = wn.audit(model, text, "memory", num_tokens=6, tokenizer=tokenizer)
    assert report.memory.num_ranked == 0
    assert report.memory.layers == []
    assert "no memory to look into" in report.memory.gain.skipped
    report.to_html_text()


def test_all_sections_come_in_one_report(saved, text):
    settings = wn.AttentionSettings(context=32, sizes=(1, 3), reference_size=3, num_windows=999)
    report = wn.audit(
        saved("llama"),
        text,
        ("head", "output", "attention", "memory"),
        num_tokens=512,
        attention=settings,
    )
    assert report.head is not None
    assert any("999 windows were asked for" in note for note in report.provenance.notes)
    assert report.attention is not None
    for section in ("output", "memory"):
        alone = wn.audit(saved("llama"), text, section, num_tokens=512).to_dict()
        assert report.to_dict()[section] == alone[section]


def test_a_model_in_memory_gives_the_numbers_of_its_files(saved, text):
    folder = saved("llama")
    on_disk = wn.audit(folder, text, num_tokens=512).to_dict()
    tokenizer = character_tokenizer(bos=True)
    in_memory = wn.audit(tiny_model("llama"), text, num_tokens=512, tokenizer=tokenizer).to_dict()
    assert in_memory["output"] == on_disk["output"]
    assert in_memory["head"]["spectrum"] == on_disk["head"]["spectrum"]


def test_section_head_needs_neither_model_nor_text(tmp_path):
    torch.manual_seed(0)
    save_file({"lm_head.weight": torch.randn(300, 12)}, tmp_path / "head.safetensors")
    report = wn.audit(tmp_path / "head.safetensors", sections=["head"])
    assert report.output is None
    assert report.head.vocab_size == 300
    assert report.head.spectrum.data_weighted is None
    assert report.provenance.text is None


def test_section_head_uses_a_text_that_is_given(saved, text):
    report = wn.audit(saved("llama"), text, sections=["head"], num_tokens=512)
    assert report.output is None
    assert report.head.spectrum.data_weighted is not None


def test_rows_beyond_the_tokenizer_are_measured_apart(tmp_path, text):
    from transformers import AutoModelForCausalLM, LlamaConfig

    from tiny import LLAMA

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**(LLAMA | {"vocab_size": 120})))
    model.get_output_embeddings().weight.data[96:] = 1.0
    model.save_pretrained(tmp_path / "m")
    character_tokenizer().save_pretrained(tmp_path / "m")
    head = wn.audit(tmp_path / "m", text, sections=["head"], num_tokens=512).head
    assert [ref.token for ref in head.rows.beyond_tokenizer] == list(range(96, 120))
    assert head.without_special.num_rows == 96
    assert head.spectrum.raw.kl_sigma2 > head.without_special.spectrum.raw.kl_sigma2 + 0.5


def test_a_planted_head_shows_exactly_its_inner_rows(tmp_path):
    """Shrunk from 20,000 x 256, which `docs/audit.md` reports, to stay quick."""
    torch.manual_seed(0)
    weight = torch.randn(4000, 64)
    planted = [11, 222, 1333, 2444, 3999]
    outer = torch.ones(4000, dtype=torch.bool)
    outer[planted] = False
    share = torch.rand(5, int(outer.sum())).double()
    weight[planted] = (share / share.sum(1, keepdim=True) @ weight[outer].double()).float()
    save_file({"lm_head.weight": weight}, tmp_path / "head.safetensors")
    found = wn.audit(tmp_path / "head.safetensors", sections=["head"]).head.argmaxable
    assert [u.token for u in found.unargmaxable] == planted
    assert found.undecided == []
    for u in found.unargmaxable:
        a = torch.tensor(u.certificate.weights).double()
        assert a.min() >= 0
        assert a.sum().item() == pytest.approx(1)
        mixture = a @ weight[u.certificate.tokens].double()
        torch.testing.assert_close(mixture, weight[u.token].double(), atol=1e-6, rtol=0)


def test_the_audit_leaves_a_model_in_memory_as_it_was(text):
    model = tiny_model("llama-tied")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wn.audit(model, text, num_tokens=512, tokenizer=character_tokenizer())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_model_in_training_goes_on_training(text):
    model = tiny_model("gpt2").train()
    model.transformer.h.eval()  # a part that its owner froze
    before = {name: module.training for name, module in model.named_modules()}
    wn.audit(model, text, num_tokens=512, tokenizer=character_tokenizer())
    assert {name: module.training for name, module in model.named_modules()} == before


def test_a_tokenizer_of_another_model_is_one_sentence(text):
    from transformers import AutoModelForCausalLM, LlamaConfig

    from tiny import LLAMA

    model = AutoModelForCausalLM.from_config(LlamaConfig(**(LLAMA | {"vocab_size": 20})))
    with pytest.raises(WideneckError, match="the model has 20 rows: they do not belong together"):
        wn.audit(model, text, num_tokens=512, tokenizer=character_tokenizer())


def test_a_slow_tokenizer_is_one_sentence(text):
    from transformers import ByT5Tokenizer

    with pytest.raises(WideneckError, match="a fast tokenizer"):
        wn.audit(tiny_model("gpt2"), text, num_tokens=512, tokenizer=ByT5Tokenizer())


def test_a_head_of_zeros_is_one_sentence(tmp_path):
    save_file({"lm_head.weight": torch.zeros(30, 4)}, tmp_path / "head.safetensors")
    with pytest.raises(WideneckError, match="same row for every token"):
        wn.audit(tmp_path / "head.safetensors", sections="head")


def test_large_logits_do_not_make_a_bfloat16_model_look_wrong(text):
    model = tiny_model("llama").to(torch.bfloat16)
    model.get_output_embeddings().weight.data.mul_(200)
    report = wn.audit(model, text, num_tokens=512, tokenizer=character_tokenizer())
    assert report.output.logits.maximum > 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_in_memory_runs_in_its_own_type(text, dtype):
    tokenizer = character_tokenizer()
    expected = wn.audit(tiny_model("llama"), text, num_tokens=512, tokenizer=tokenizer).output
    found = wn.audit(tiny_model("llama").to(dtype), text, num_tokens=512, tokenizer=tokenizer)
    assert found.provenance.compute_dtype == str(dtype).removeprefix("torch.")
    exact, value = expected.loss.nats_per_token.value, found.output.loss.nats_per_token.value
    assert value == pytest.approx(exact, rel=2**-8 if dtype == torch.bfloat16 else 1e-6)
    assert value != exact  # it ran in another type


def test_equal_calls_give_equal_numbers(saved, text):
    first, second = (wn.audit(saved("gpt2"), text, num_tokens=512).to_dict() for _ in range(2))
    for found in (first, second):
        del found["provenance"]
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sections": ["body"]},
            "sections of an audit are head, output, cost, attention, memory; 'body' was asked for",
        ),
        ({"sections": []}, "none was asked for"),
        ({"num_tokens": 0}, "at least one token"),
        ({"text": "missing.txt"}, "no text file missing.txt"),
    ],
)
def test_a_wrong_call_is_one_sentence(saved, arguments, message):
    with pytest.raises(WideneckError, match=message):
        wn.audit(saved("gpt2"), **arguments)


def test_too_few_tokens_for_the_whitening_are_said_and_not_guessed(saved, text):
    model = tiny_model("llama")
    model.config.max_position_embeddings = 16
    report = wn.audit(model, text, num_tokens=32, tokenizer=character_tokenizer())
    assert {point.method for point in report.output.rank_cost.points} == {"plain", "centred"}
    assert "fewer than twice the hidden size 16" in report.output.rank_cost.skipped


def test_one_window_is_enough_for_all_but_the_rank_cost(saved, text):
    output = wn.audit(saved("llama"), text, num_tokens=1).output
    assert output.num_tokens == 63
    assert output.loss.nats_per_token.low is None
    assert output.rank_cost.points == []
    assert "one window" in output.rank_cost.skipped


def test_the_report_of_one_window_can_be_drawn_and_says_what_was_measured(saved, text):
    report = wn.audit(saved("llama"), text, num_tokens=1)
    assert "<svg" in report.to_html_text()
    assert "1 tokens were asked for, 63 measured" in report.provenance.notes[0]


def test_a_head_that_does_not_explain_the_logits_is_refused(saved, text):
    """The files of a folder that disagree with each other: weights edited behind the model."""
    folder = saved("llama")
    model = tiny_model("llama")
    tensors = load_file(folder / "model.safetensors")
    original = model.forward

    def twisted(*args, **kwargs):
        output = original(*args, **kwargs)
        output.logits = output.logits + model.twist
        return output

    model.twist = 0.0
    assert "lm_head.weight" in tensors
    from wideneck.audits.clock import Clock
    from wideneck.audits.output import audit_output
    from wideneck.audits.states import collect_states
    from wideneck.data import cut_windows, read_text
    from wideneck.models import measure_logit_map, read_head

    windows = cut_windows(read_text(text), character_tokenizer(), num_tokens=80, window=40)
    logit_map = measure_logit_map(model)
    model.forward = twisted
    model.twist = torch.linspace(0, 1, 96)
    states = collect_states(model, windows)
    with pytest.raises(WideneckError, match="does not give the model's own logits"):
        audit_output(read_head(folder), logit_map, states, Clock())
