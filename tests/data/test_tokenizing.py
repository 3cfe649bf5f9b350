"""Tokenizers of strangers at work: what they raise is one sentence, and pieces change nothing."""

import pytest

from tiny_text import character_tokenizer
from wideneck.data import cut_windows, encode_documents, tokenizing
from wideneck.data.text import Text
from wideneck.data.tokenizing import pieces
from wideneck.errors import WideneckError
from wideneck.evaluation.documents import windows_of


class PanicException(BaseException):
    """As pyo3 makes of a panic of Rust."""


PanicException.__module__ = "pyo3_runtime"


class Failing:
    """A tokenizer of which only the name is good."""

    is_fast, eos_token_id, name_or_path = True, 0, "some/tokenizer"

    def __init__(self, error):
        self.error = error

    def __call__(self, *_, **__):
        if isinstance(self.error, BaseException):
            raise self.error
        return self.error


TEXT = Text(name="novel.txt", documents=["some words"], sha256="")
READERS = {
    "windows": lambda t: cut_windows(TEXT, t, num_tokens=4, window=2),
    "documents": lambda t: windows_of(TEXT.documents, t, window=2, name="novel.txt"),
    "corpus": lambda t: encode_documents(TEXT.documents, t, "novel.txt"),
}
ANSWERS = {
    "panic": PanicException("index out of bounds"),
    "overflow": OverflowError("int too big to convert"),
    "recursion": RecursionError(),
    "too large an id": {"input_ids": [2**40], "offset_mapping": [(0, 1)]},
    "no ids": {},
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_tokenizer_that_fails_is_named_with_the_text(reader, answer):
    given = ANSWERS[answer]
    if reader == "corpus" and given and isinstance(given, dict):
        given = {"input_ids": [given["input_ids"]]}
    with pytest.raises(WideneckError) as caught:
        READERS[reader](Failing(given))
    assert "The tokenizer some/tokenizer: the text novel.txt cannot be read (" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokens_that_stand_for_no_byte_are_refused():
    nowhere = Failing({"input_ids": [1, 2], "offset_mapping": [(0, 0), (0, 0)]})
    with pytest.raises(WideneckError, match=r"novel.txt tokens that stand for none of its bytes"):
        READERS["documents"](nowhere)


@pytest.mark.parametrize("reader", READERS)
def test_who_stops_a_tokenizer_is_not_told_that_it_failed(reader):
    with pytest.raises(KeyboardInterrupt):
        READERS[reader](Failing(KeyboardInterrupt()))


LINES = "".join(f"{k} green bottles\n\n" + "hanging " * (k % 40) + "\n" for k in range(200))


@pytest.mark.parametrize("text", [LINES, LINES.replace("\n", " "), "a" * 5000, " " * 3000 + "b"])
def test_tokens_and_their_ends_are_those_of_the_text_in_one_piece(text, monkeypatch):
    tokenizer = character_tokenizer()
    whole = tokenizing.ids_and_ends(tokenizer, text, "it")
    lengths = []

    def counted(document):
        for piece in pieces(document, 100):
            lengths.append(len(piece))
            yield piece

    monkeypatch.setattr(tokenizing, "pieces", counted)
    cut = tokenizing.ids_and_ends(tokenizer, text, "it")
    assert [part.tolist() for part in cut] == [part.tolist() for part in whole]
    assert max(lengths) <= 200
    assert sum(lengths) == len(text)


def test_no_more_is_read_than_is_asked_for(monkeypatch):
    monkeypatch.setattr(tokenizing, "pieces", lambda text: pieces(text, 100))
    ids, ends = tokenizing.ids_and_ends(character_tokenizer(), LINES, "it", enough=150)
    assert 150 <= len(ids) == len(ends) <= 400


@pytest.mark.parametrize("num_tokens", [1, 37, 99, 100, 101, 350, None])
def test_an_evaluation_of_the_first_tokens_is_the_start_of_the_whole(num_tokens, monkeypatch):
    documents = [LINES, "short", LINES]
    tokenizer = character_tokenizer()
    whole = windows_of(documents, tokenizer, window=30, prefix=[5])
    monkeypatch.setattr(tokenizing, "pieces", lambda text: pieces(text, 100))
    part = windows_of(documents, tokenizer, window=30, prefix=[5], num_tokens=num_tokens)
    targets = [target for window in whole for target in window.target.tolist()]
    found = [target for window in part for target in window.target.tolist()]
    assert found == targets[: num_tokens or len(targets)]
    for ours, theirs in zip(part[:-1], whole, strict=False):
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert (ours.document, ours.num_bytes) == (theirs.document, theirs.num_bytes)
    assert all(window.num_bytes == len(window.target) for window in part)
