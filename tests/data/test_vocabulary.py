"""Words as tokens, against the plain reading of the convention."""

import re
from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from wideneck.data import Vocabulary, read_vocabulary, write_vocabulary
from wideneck.data import vocabulary as module
from wideneck.data.tokenizing import pieces
from wideneck.data.vocabulary import words_of
from wideneck.errors import WideneckError

TEXT = "the cat sat on the mat\n\nthe dog sat\nno end"


def slow_words(text):
    """salesforce/awd-lstm-lm's data.py: every line's words, and an <eos>."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [word for line in lines for word in [*line.split(), "<eos>"]]


def slow_vocabulary(text):
    words = slow_words(text)
    order = sorted(set(words), key=lambda word: (-words.count(word), words.index(word)))
    return [*order, *(special for special in ("<eos>", "<unk>") if special not in order)]


PARTS = [*"ab \n\t\r\f\v\x1c\x85\u2028\u3000é", "<unk>", " <eos> "]
SOME_TEXT = st.lists(st.sampled_from(PARTS)).map("".join)


@given(SOME_TEXT)
@example(TEXT)
@example("a\x85b\u2028c\n")
def test_the_tokens_are_those_of_the_plain_reading(text):
    assert [*chain.from_iterable(words_of(text))] == slow_words(text)
    vocabulary = Vocabulary.of([text])
    assert list(vocabulary.words) == slow_vocabulary(text)
    assert vocabulary.encode(text).tolist() == [vocabulary.index[w] for w in slow_words(text)]


@given(st.lists(SOME_TEXT), st.integers(3, 8))
@example([TEXT], 4)
def test_a_cut_vocabulary_keeps_the_most_frequent_words(texts, size):
    words = [word for text in texts for word in slow_words(text)]
    plain = Counter(word for word in words if word not in ("<eos>", "<unk>"))
    vocabulary = Vocabulary.of(texts, size)
    kept = set(vocabulary.words) - {"<eos>", "<unk>"}

    assert kept == {word for word, _ in plain.most_common(size - 2)}
    assert len(vocabulary) == len(kept) + 2 <= size
    ids = torch.cat([torch.empty(0, dtype=torch.long), *map(vocabulary.encode, texts)])
    frequencies = ids.bincount(minlength=len(vocabulary))
    assert (frequencies.diff() <= 0).all()
    assert frequencies[vocabulary.unk_id] == sum(word not in kept | {"<eos>"} for word in words)
    assert frequencies[vocabulary.eos_id] == words.count("<eos>")


def test_a_cut_that_keeps_everything_is_no_cut():
    whole = Vocabulary.of([TEXT])
    assert Vocabulary.of([TEXT], len(whole)) == Vocabulary.of([TEXT], 1000) == whole


def test_a_text_without_unknown_words_still_has_a_place_for_them():
    vocabulary = Vocabulary.of(["a b\n"])
    assert vocabulary.words == ("a", "b", "<eos>", "<unk>")
    assert vocabulary.encode("a z b").tolist() == [0, 3, 1, 2]


def test_decoded_ids_encode_to_themselves():
    vocabulary = Vocabulary.of([TEXT])
    ids = vocabulary.encode(TEXT)
    assert ids.dtype == torch.long
    assert vocabulary.decode(ids.tolist()) == "the cat sat on the mat \n\nthe dog sat \nno end \n"
    assert vocabulary.encode(vocabulary.decode(ids.tolist())).equal(ids)
    assert vocabulary.encode("").shape == (0,)


@given(SOME_TEXT, st.integers(1, 5))
def test_pieces_are_the_text_and_part_no_line_where_one_ends_in_reach(text, size):
    cut = list(pieces(text, size))
    assert "".join(cut) == text
    assert all(size <= len(piece) <= 2 * size for piece in cut[:-1])
    assert len(cut[-1:] and cut[-1]) <= size
    for place, piece in enumerate(cut[:-1]):
        rest = "".join(cut[place:])[size - 1 : 2 * size]
        found = re.search(r"\n(?=\S)", rest)
        if found:
            assert len(piece) == size + found.start()
        elif re.search(r"\s\S", rest):
            assert piece[-1:].isspace() or cut[place + 1][0].isspace()


@given(SOME_TEXT, st.integers(1, 5))
def test_words_are_the_same_however_the_text_is_cut(text, size):
    assert [*chain.from_iterable(words_of(text, size))] == slow_words(text)


def test_a_text_of_different_words_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST", 4)
    Vocabulary.of(["a b c\n"])
    with pytest.raises(WideneckError, match="more than 4 different words, too many for a vocab"):
        Vocabulary.of(["a b c\n", "d"])


def test_a_vocabulary_survives_its_file(tmp_path):
    vocabulary = Vocabulary.of([TEXT + " é \u200b \ufeff"])
    write_vocabulary(tmp_path / "v.txt", vocabulary)
    assert read_vocabulary(tmp_path / "v.txt") == vocabulary
    assert read_vocabulary(tmp_path / "v.txt").sha256 == vocabulary.sha256
    assert (tmp_path / "v.txt").read_text("utf-8").split("\n")[:2] == list(vocabulary.words[:2])


def test_the_digest_tells_the_order_of_the_words():
    assert Vocabulary(("a", "<eos>", "<unk>")).sha256 != Vocabulary(("<eos>", "a", "<unk>")).sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 is ''"),
        ("<eos>\n<unk>\n\na\n", "line 3 is ''"),
        ("<eos>\n<unk>\na b\n", "line 3 is 'a b'"),
        ("<eos>\na\n<unk>\na\n", "line 4 is 'a'"),
        ("<eos>\na\n", "has no <unk>"),
        ("<unk>\na\n", "has no <eos>"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_one_sentence(tmp_path, content, message):
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(WideneckError, match=f"v.txt is no vocabulary: .*{message}"):
        read_vocabulary(tmp_path / "v.txt")
