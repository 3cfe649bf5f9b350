"""Splits from the package `datasets`, which a small module of our own stands in for."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from wideneck.data import Data, encode_corpus, read_corpus
from wideneck.errors import WideneckError

# Blank lines hold one space in the papers' files, and are rows of nothing at all.
TRAIN = " \n = First = \n \n a b \n c \n = Second = \n d <unk> \n"
VALID = " \n = Third = \n a \n"


class Dataset:
    """As much of a dataset as is asked for: the types of its columns, and their rows."""

    def __init__(self, **columns):
        self.columns = columns
        kinds = {str: "string", int: "int64"}
        self.features = {
            name: SimpleNamespace(dtype=kinds[type(rows[0])]) for name, rows in columns.items()
        }

    def __getitem__(self, column):
        return iter(self.columns[column])


def serve(monkeypatch, answer):
    """Let `datasets.load_dataset` give `answer`, or raise it; what it is asked for is returned."""
    asked = []

    def load_dataset(*names):
        asked.append(names)
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = ModuleType("datasets")
    monkeypatch.setattr(module, "load_dataset", load_dataset, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def rows(content, end):
    lines = content.removesuffix("\n").split("\n")
    return [line + end if line.strip() else "" for line in lines]


def counts(corpus):
    encoded = encode_corpus(corpus, Data())
    return encoded.sha256, encoded.train.num_lines, len(encoded.train.ids)


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_rows_of_wikitext_give_the_tokens_of_the_file(monkeypatch, tmp_path, end):
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "valid.txt").write_text(VALID)
    (tmp_path / "test.txt").write_text(VALID)
    splits = {"train": TRAIN, "validation": VALID, "test": VALID}
    asked = serve(monkeypatch, {s: Dataset(text=rows(t, end)) for s, t in splits.items()})
    corpus = read_corpus("datasets:Salesforce/wikitext:wikitext-2-v1")
    assert asked == [("Salesforce/wikitext", "wikitext-2-v1")]
    assert len(corpus.train) == 2
    assert counts(corpus) == counts(read_corpus(str(tmp_path)))


def test_rows_of_several_lines_are_documents(monkeypatch):
    stories = ["Once.\n\nEnd.", "One line.", "Two\nlines.\n", " "]
    asked = serve(monkeypatch, {s: Dataset(text=stories) for s in ("train", "validation")})
    corpus = read_corpus("datasets:stories")
    assert asked == [("stories",)]
    assert corpus.train == tuple(stories[:3])
    assert corpus.test is None


def test_rows_of_nothing_are_blank(monkeypatch):
    split = Dataset(text=["one\n", None, "two\n"])
    serve(monkeypatch, {"train": split, "validation": split})
    assert read_corpus("datasets:holes").train == ("one\n\ntwo\n",)


def test_the_only_column_of_strings_is_the_text(monkeypatch):
    split = Dataset(label=[0, 1], sentence=["one two", "three"])
    serve(monkeypatch, {"train": split, "validation": split})
    assert read_corpus("datasets:sentences").train == ("one two\nthree\n",)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"train": Dataset(text=["a"])}, "splits train and validation .* it has train"),
        ({"validation": Dataset(text=["a"]), "test": Dataset(text=["a"])}, "has validation, test"),
        (
            {"train": Dataset(a=["x"], b=["y"]), "validation": Dataset(a=["x"], b=["y"])},
            "one column of strings; its columns of strings are a, b",
        ),
        (
            {"train": Dataset(a=[1]), "validation": Dataset(a=[1])},
            "its columns of strings are none",
        ),
        (
            {"train": Dataset(text=[""]), "validation": Dataset(text=["a"])},
            r"The text some:thing \(train split\) is empty",
        ),
        (ConnectionError("no route\nat all"), r"cannot be read \(no route\): check its name"),
    ],
)
def test_a_dataset_that_is_no_corpus_is_one_sentence(monkeypatch, answer, message):
    serve(monkeypatch, answer)
    with pytest.raises(WideneckError, match=message):
        read_corpus("datasets:some:thing")


@pytest.mark.parametrize("text", ["datasets:", "datasets::a", "datasets:a:b:c"])
def test_a_name_that_is_none_is_refused(text):
    with pytest.raises(WideneckError, match="expected datasets:NAME or datasets:NAME:SUBSET"):
        read_corpus(text)


def test_a_missing_package_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(WideneckError, match="not installed: run `pip install datasets`"):
        read_corpus("datasets:some")
