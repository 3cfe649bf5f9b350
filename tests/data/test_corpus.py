"""Splits from folders and files."""

import gzip
from itertools import accumulate

import pytest

from wideneck.data import read_corpus
from wideneck.errors import WideneckError

ARTICLES = " \n = First = \n \n a b \n = = Section = = \n c \n = Second = \n d \n"


def write_splits(folder, **contents):
    for name, content in contents.items():
        (folder / f"tiny.{name}.txt").write_text(content)
    return str(folder)


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("wiki.train.raw", "wiki.valid.raw", "wiki.test.raw"),
        ("TRAIN", "validation", "TEST"),
        ("train.txt.gz", "val.txt.gz", "test.gz"),
        ("latest.train.txt", "latest.val.txt", "latest.test.txt"),
        ("test.train.txt", "test.valid.txt", "test.test.txt"),
    ],
)
def test_a_folder_has_a_file_for_each_split(tmp_path, train, valid, test):
    for name, content in ((train, "one\n"), (valid, "two\n"), (test, "three\n")):
        data = content.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for other in ("README.md", ".train.txt", "evaluation.txt", "train.py", "latest.log"):
        (tmp_path / other).write_text("something else")
    corpus = read_corpus(str(tmp_path))
    assert (corpus.train, corpus.valid, corpus.test) == (("one\n",), ("two\n",), ("three\n",))


def test_a_folder_needs_no_test_split(tmp_path):
    assert read_corpus(write_splits(tmp_path, train="one\n", valid="two\n")).test is None


def test_every_byte_of_a_wikitext_file_is_in_one_of_its_articles(tmp_path):
    corpus = read_corpus(write_splits(tmp_path, train=ARTICLES, valid=" \n" + ARTICLES + "\n \n"))
    assert len(corpus.train) == len(corpus.valid) == 2
    assert "".join(corpus.train) == ARTICLES
    assert "".join(corpus.valid) == " \n" + ARTICLES + "\n \n"


@pytest.mark.parametrize("mark", ["\f", "<|endoftext|>"])
def test_marks_between_documents_go_and_lines_stay(tmp_path, mark):
    content = f"one\n{mark}\ntwo\n{mark}\n"
    corpus = read_corpus(write_splits(tmp_path, train=content, valid="x\n"))
    assert corpus.train == ("one\n", "\ntwo\n\n")


def test_a_file_is_cut_at_line_ends(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{i}\n" for i in range(10)))
    corpus = read_corpus(str(tmp_path / "a.txt"))
    assert corpus.train == ("0\n1\n2\n3\n4\n5\n6\n7\n",)
    assert (corpus.valid, corpus.test) == (("8\n",), ("9\n",))
    assert corpus.name == "a.txt, cut 80/10/10 at line ends"


def test_a_file_of_documents_is_cut_between_them(tmp_path):
    documents = [f"{i}\nmore\n" for i in range(10)]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\f".join(documents).encode()))
    corpus = read_corpus(str(tmp_path / "a.txt.gz"))
    assert corpus.train == tuple(documents[:8])
    assert (corpus.valid, corpus.test) == (tuple(documents[8:9]), tuple(documents[9:]))
    assert corpus.name == "a.txt.gz, cut 80/10/10 between documents"


@pytest.mark.parametrize("long", [0, 1, 2])
def test_every_split_of_a_file_gets_something_however_long_one_part_is(tmp_path, long):
    lines = ["short\n"] * 3
    lines[long] = "long " * 100 + "\n"
    (tmp_path / "a.txt").write_text("".join(lines))
    corpus = read_corpus(str(tmp_path / "a.txt"))
    assert [*corpus.train, *corpus.valid, *corpus.test] == lines


def test_the_default_corpus_shares_no_document_between_its_splits():
    corpus = read_corpus(None)
    assert not set(corpus.train) & {*corpus.valid, *corpus.test}
    assert not set(corpus.valid) & set(corpus.test)
    sizes = [sum(map(len, split)) for split in (corpus.train, corpus.valid, corpus.test)]
    # Each cut is the one between two documents that is nearest to 8 and to 9 tenths.
    upto = [0, *accumulate(map(len, [*corpus.train, *corpus.valid, *corpus.test]))]
    for place, tenths in (
        (len(corpus.train), 8),
        (len(corpus.train) + len(corpus.valid), 9),
    ):
        away = [abs(10 * upto[n] - tenths * upto[-1]) for n in (place - 1, place, place + 1)]
        assert away[1] == min(away)
    # No subject of its own is a split.
    for split, size in zip((corpus.valid, corpus.test), sizes[1:], strict=True):
        assert max(map(len, split)) < size / 3
    assert corpus == read_corpus(None)


def test_the_digest_tells_which_split_a_document_is_in(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = read_corpus(write_splits(tmp_path / "a", train="one\n", valid="two\n"))
    other = read_corpus(write_splits(tmp_path / "b", train="two\n", valid="one\n"))
    assert one.sha256 != other.sha256


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "should hold a text file with 'train' in its name .* it holds no file"),
        ({"notes": "a"}, "'train' in its name .* it holds tiny.notes.txt"),
        ({"train": "a"}, "'val' in its name .* it holds tiny.train.txt"),
        ({"train": "a", "valid": "b", "val": "c"}, "2 files that could be the val split"),
        ({"train": "a", "train2": "a", "valid": "b"}, "2 files that could be the train split"),
        ({"train": " \n", "valid": "b"}, r"The text .* \(train split\) is empty"),
        ({"train": "a", "valid": ""}, r"The text .* \(valid split\) is empty"),
        ({"train": "a", "valid": "b", "test": "\f\n"}, r"The text .* \(test split\) is empty"),
    ],
)
def test_a_folder_that_is_no_corpus_is_one_sentence(tmp_path, contents, message):
    with pytest.raises(WideneckError, match=message):
        read_corpus(write_splits(tmp_path, **contents))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "The text a.txt is empty"),
        ("a.txt", b" \n\n \n \n", "The text a.txt is empty"),
        ("a.txt", b"one\ntwo", "has 2 lines, too few to be cut into three splits"),
        ("a.txt", b"one\n \n \n", r"The text a.txt.* \(valid split\) is empty"),
        ("a.txt", b"caf\xe9\n", "is not UTF-8 text .byte 3"),
        ("a.txt.gz", b"not compressed", "cannot be unpacked"),
        ("a.txt.gz", gzip.compress(b"text" * 9, mtime=0)[:-9], "cannot be unpacked"),
    ],
)
def test_a_file_that_is_no_corpus_is_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WideneckError, match=message):
        read_corpus(str(tmp_path / name))


def test_a_split_that_is_not_utf8_is_named(tmp_path):
    write_splits(tmp_path, train="one\n")
    (tmp_path / "tiny.valid.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(WideneckError, match=r"tiny\.valid\.txt is not UTF-8"):
        read_corpus(str(tmp_path))


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(WideneckError, match=r"There is no file or folder .*nowhere: give a text"):
        read_corpus(str(tmp_path / "nowhere"))
