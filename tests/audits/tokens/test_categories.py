"""Every category of a token, in tokenizers made by hand."""

import pytest

from hand_made_tokenizers import byte_level, letters, with_fallback, word_piece
from wideneck.audits.tokens import categorize
from wideneck.audits.tokens.categories import NO_BYTES
from wideneck.audits.tokens.category import names_padding
from wideneck.models.tokens import token_strings


def categories(tokenizer, more=0, **given):
    """By string; rows beyond the tokenizer by id."""
    strings = token_strings(tokenizer)
    found = categorize(tokenizer, strings, len(strings) + more, **given)
    names = [s if s is not None else i for i, s in enumerate(strings)]
    names += range(len(strings), len(found))
    return dict(zip(names, found, strict=True))


def test_byte_level():
    notes = []
    found = categories(byte_level(), more=2, notes=notes)
    expected = {
        "hello": "ok",
        "hell": "ok",
        letters("«".encode()): "ok",
        "A": "ok",
        letters(b"\n"): "ok",
        letters(b"\x80"): "utf-8 byte",
        letters(b"\xbf"): "utf-8 byte",
        letters(b"\xc2"): "utf-8 byte",
        letters(b"\xf4"): "utf-8 byte",
        letters(b"\xc0"): "never valid byte",
        letters(b"\xc1"): "never valid byte",
        letters(b"\xf5"): "never valid byte",
        letters(b"\xff"): "never valid byte",
        letters("é".encode()): "ok",
        letters("é世".encode()[:3]): "undecodable",
        "zebra": "unreachable multi",
        "[lost]": "unreachable special",
        "[PAD300]": "padding",
        "<unused7>": "padding",
        "<|reserved_special_token_12|>": "padding",
        "<|end|>": "special",
        "<tool>": "ok",
    }
    assert {name: found[name] for name in expected} == expected
    assert [*found.values()][-2:] == ["beyond the tokenizer"] * 2
    assert [*found.values()].count("never valid byte") == 13
    assert [*found.values()].count("utf-8 byte") == 115
    assert notes == []


def test_pieces_with_bytes_to_fall_back_on():
    notes = []
    found = categories(with_fallback(), notes=notes)
    expected = {
        "▁hello": "ok",
        "lo": "ok",
        "<0x0A>": "ok",  # a line end has no other token
        "<0x41>": "ascii byte",  # A has
        "<0x80>": "utf-8 byte",
        "<0xF4>": "utf-8 byte",
        "<0xC1>": "never valid byte",
        "<0xF5>": "never valid byte",
        "▁world": "unreachable multi",
        "<unused7>": "padding",
        "[x]": "unreachable special",
        "<s>": "special",
        "<unk>": "special",
    }
    assert {name: found[name] for name in expected} == expected
    assert "undecodable" not in found.values()
    assert notes == []


def test_word_pieces_have_no_bytes_and_it_is_said():
    notes = []
    found = categories(word_piece(), notes=notes)
    assert found == {
        "[PAD]": "special",
        "[UNK]": "special",
        "[unused3]": "padding",
        "«": "ok",
        "»": "ok",
        "z": "ok",
        "я": "ok",
        "run": "ok",
        "##ning": "ok",  # behind a letter: between « and » no text has it
        "##s": "ok",
        "Run": "unreachable single",  # run
        "[old]": "unreachable special",
        "don't": "unreachable multi",
        "яю": "ok",
        "##ю": "ok",  # behind z: behind я it is a part of another word
    }
    assert notes == [NO_BYTES]


def test_types_of_gguf_name_padding_and_control_tokens():
    tokenizer = with_fallback()
    strings = token_strings(tokenizer)
    types = [1] * len(strings)
    types[strings.index("▁world")], types[strings.index("▁hel")] = 5, 3
    found = categories(tokenizer, types=types)
    assert found["▁world"] == "padding"
    assert found["▁hel"] == "special"
    assert found["▁hello"] == "ok"


@pytest.mark.parametrize(
    "name",
    ["[PAD151768]", "<unused7>", "[unused12]", "<|reserved_special_token_9|>", "<pad_3>"],
)
def test_names_of_padding(name):
    assert names_padding(name)


@pytest.mark.parametrize(
    "name", ["[PAD]", "<pad>", "pad3", "<|im_start|>", "<0x0A>", "[7]", "<|unused7>", "<extra>"]
)
def test_names_that_are_no_padding(name):
    assert not names_padding(name)
