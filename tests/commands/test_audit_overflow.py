"""Models whose numbers overflow: the rest of the report is there, and says what is not."""

import io
import json

import pytest
import torch
import transformers as tr
from rich.console import Console

import wideneck as wn
from tiny import LLAMA, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.attention import use
from wideneck.errors import WideneckError
from wideneck.report.numbers import UNMEASURED
from wideneck.report.terminal import show

ALL = ("head", "output", "attention", "memory")


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt")


def with_factor(part: str, factor: float):
    model = tiny_model("llama")
    for name, parameter in model.named_parameters():
        if part in name:
            parameter.data.mul_(factor)
    return model


def no_constant(name: str):
    raise AssertionError(f"{name} is not JSON")


def audited(model, text, sections=ALL, **how):
    """Report, JSON, HTML and terminal; none holds a NaN."""
    found = wn.audit(model, text, sections, num_tokens=128, tokenizer=character_tokenizer(), **how)
    data = json.loads(found.to_json_text(), parse_constant=no_constant)
    stream = io.StringIO()
    show(found, Console(file=stream, width=80))
    page, printed = found.to_html_text(), stream.getvalue()
    said = " ".join(printed.split()).replace(
        "move by inf of", ""
    )  # of another part of wideneck, in a note
    assert not {"nan", "inf"} & {word.strip("[],%") for word in said.split()}
    assert not any("n" in part.split('"')[0] for part in page.split(' d="')[1:])
    return data, page, printed


@pytest.mark.parametrize(("part", "factor"), [("model.norm", 3e38), ("down_proj", float("nan"))])
def test_states_that_are_not_finite_leave_the_head(text, part, factor):
    data, page, printed = audited(with_factor(part, factor), text)
    assert [name for name in ALL if data[name] is not None] == ["head"]
    assert data["head"]["spectrum"]["data_weighted"] is None
    first, second = data["provenance"]["notes"]
    assert "hidden states that are not finite" in first
    assert "attention" in second
    for note in (first, second):
        assert note in page
        assert "".join(note.split()) in "".join(printed.split())


@pytest.mark.parametrize("sections", ["output", "memory", "attention"])
def test_without_any_section_left_it_is_an_error(text, sections):
    with pytest.raises(WideneckError, match="not finite on this text"):
        wn.audit(
            with_factor("model.norm", 3e38),
            text,
            sections,
            num_tokens=64,
            tokenizer=character_tokenizer(),
        )


def test_values_beyond_the_squares_of_float32_leave_distances_out(text):
    data, page, printed = audited(with_factor("v_proj", 1e20), text)
    attention = data["attention"]
    assert [point["distance"] for point in attention["by_size"]] == [None] * 4
    assert all(0 < head["entropy"] for head in attention["heads"])
    assert all(point["mass"] > 0 for point in attention["by_size"])
    assert "heads[].distance" in " ".join(attention["notes"])
    assert "queries of layer 1" in attention["notes"][0]
    assert f"distance: {UNMEASURED}" in page
    assert "derived bound: not " in printed  # whose second word is folded
    for name in ("output", "memory"):
        assert data[name]["notes"] == []
    assert all("tokenizer" in note for note in data["head"]["notes"])  # it spells no bytes


def test_large_states_of_a_layer_leave_its_ranks_out(text):
    data, page, _ = audited(with_factor("embed", 1e25), text, ("head", "memory"))
    first, *_, last = data["memory"]["layers"]
    assert first["dot"]["reciprocal_rank"]["value"] is None
    assert 0 < last["dot"]["reciprocal_rank"]["value"] <= 1
    assert "layers[].dot" in " ".join(data["memory"]["notes"])
    assert f"dot: 2 of 3 points {UNMEASURED}" in page


def test_states_of_zeros_have_no_data_weighted_spectrum(text):
    data, page, _ = audited(with_factor("model.norm", 0.0), text)
    weighted = data["head"]["spectrum"]["data_weighted"]
    assert (weighted["kl_sigma2"], weighted["numerical_rank"]) == (None, None)
    assert weighted["singular_values"] == []
    assert data["head"]["spectrum"]["raw"]["kl_sigma2"] > 0
    assert f"weighted: {UNMEASURED}" in page
    assert all(data[name] is not None for name in ALL)


def test_a_normalizer_that_a_model_does_not_allow_leaves_the_others(text):
    model = with_factor("lm_head", 1e30)
    data, _, _ = audited(model, text, normalizers=["entmax15"])
    attention = data["attention"]
    assert len(attention["comparison"]) == 1
    assert "the model under entmax15" in " ".join(attention["notes"])
    assert data["output"]["logits"]["spread"] > 1e28
    use(model, "softmax")  # nothing is left in the model


def test_a_model_without_attention_to_watch_keeps_its_other_sections(text):
    config = tr.BloomConfig(vocab_size=96, hidden_size=16, n_layer=1, n_head=2)
    torch.manual_seed(0)
    model = tr.BloomForCausalLM(config).eval()
    data, _, _ = audited(model, text)
    assert [name for name in ALL if data[name] is None] == ["attention"]
    assert "BloomForCausalLM" in data["provenance"]["notes"][0]


def test_a_mistake_of_the_user_still_stops(text):
    model = tr.AutoModelForCausalLM.from_config(tr.LlamaConfig(**(LLAMA | {"vocab_size": 20})))
    with pytest.raises(WideneckError, match="do not belong together"):
        wn.audit(model, text, ALL, num_tokens=64, tokenizer=character_tokenizer())
    settings = wn.AttentionSettings(context=4096)
    with pytest.raises(WideneckError, match="positions for"):
        wn.audit(
            tiny_model("llama"),
            text,
            ALL,
            num_tokens=64,
            tokenizer=character_tokenizer(),
            attention=settings,
        )
