"""What is asked of an audit that nobody can give: one sentence says so, whatever type came."""

import pytest

import wideneck as wn
from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.errors import WideneckError

TOKENIZER = character_tokenizer()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "a.txt")


def audit(model, text, sections="cost", **options):
    options = {"num_tokens": 640, "argmaxable": False, **options}
    return wn.audit(model, text, sections, tokenizer=TOKENIZER, **options)


def test_a_memory_has_no_cost_of_its_head(file):
    model = wn.attach_memory(tiny_model("llama"))
    with pytest.raises(WideneckError, match="predicts from a memory"):
        audit(model, file)
    found = audit(model, file, ("head", "cost"))
    assert found.cost is None
    assert found.head is not None
    [note] = found.provenance.notes
    assert "predicts from a memory" in note


def test_of_a_low_rank_the_merged_model_is_measured(file):
    model = wn.attach(
        tiny_model("llama"), "low_rank", rank=8, text=file, tokenizer=TOKENIZER, num_tokens=512
    )
    with pytest.raises(WideneckError, match=r"product of two matrices: .* wideneck\.merged"):
        audit(model, file)
    assert audit(wn.merged(model), file).cost.kinds


@pytest.mark.parametrize("text", [5, b"a.txt", ["a.txt"], True])
def test_a_text_is_a_file(text):
    message = "A text is the path of a file, or None"
    with pytest.raises(WideneckError, match=message):
        audit(tiny_model("llama"), text)
    with pytest.raises(WideneckError, match=message):
        wn.attach(tiny_model("llama"), "low_rank", rank=8, text=text, tokenizer=TOKENIZER)
    with pytest.raises(WideneckError, match=message):
        wn.reset_rows(tiny_model("llama"), [40], text=text, tokenizer=TOKENIZER)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost_limit": "0.01"}, "such as 0.01; got '0.01'"),
        ({"cost_limit": True}, "such as 0.01; got True"),
        ({"num_tokens": "640"}, "at least one token; '640' were asked for"),
        ({"num_tokens": 2.5}, r"at least one token; 2\.5 were asked for"),
        ({"num_tokens": True}, "at least one token; True were asked for"),
        ({"sections": ("head", "cost"), "verify_tokens": 2.5}, r"verified; 2\.5 were asked for"),
        ({"sections": ("head", "cost"), "verify_tokens": "3"}, "verified; '3' were asked for"),
        ({"sections": 5}, "The sections of an audit are .*; 5 was asked for"),
    ],
)
def test_numbers_are_numbers(file, options, message):
    with pytest.raises(WideneckError, match=message):
        audit(tiny_model("llama"), file, **options)
