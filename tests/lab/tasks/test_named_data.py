"""Pairs of a text and its summary from JSON lines and from datasets, and what is refused."""

import gzip
import json
import sys
import tracemalloc
from types import ModuleType, SimpleNamespace

import pytest

from lab.tasks.stand_ins import CNN_DM, XSUM, write_folder, write_lines, write_stories
from wideneck.data import read_corpus
from wideneck.errors import WideneckError
from wideneck.lab.tasks.named_data import named_pairs, summary_pairs
from wideneck.lab.tasks.pairs import Pair

PAIRS = [Pair(row["document"], row["summary"]) for row in XSUM]


class Dataset:
    """As much of a dataset as is asked for: the types of its columns, and their rows."""

    def __init__(self, rows, **kinds):
        self.rows = rows
        self.features = {name: SimpleNamespace(dtype=kinds.get(name, "string")) for name in rows[0]}

    def __getitem__(self, column):
        return (row[column] for row in self.rows)


def serve(monkeypatch, **splits):
    """Let `datasets.load_dataset` give these; what it is asked for is returned."""
    asked = []
    module = ModuleType("datasets")
    monkeypatch.setattr(
        module, "load_dataset", lambda *names: asked.append(names) or splits, raising=False
    )
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def splits_of(rows):
    names = ("train", "validation", "test")
    return {name: Dataset([row]) for name, row in zip(names, rows, strict=True)}


@pytest.mark.parametrize(
    ("rows", "names"), [(XSUM, ("document", "summary")), (CNN_DM, ("article", "highlights"))]
)
def test_each_way_of_naming_the_same_pairs_gives_them(tmp_path, monkeypatch, rows, names):
    folder = summary_pairs(str(write_folder(tmp_path / "folder", rows)))
    expected = [[Pair(*(row[name] for name in names))] for row in rows]
    assert [folder.train, folder.valid, folder.test] == expected
    assert folder.counts == {"train.jsonl": 1, "validation.jsonl": 1, "test.jsonl": 1}
    file = summary_pairs(str(write_lines(tmp_path / "all.jsonl", rows)))
    assert file.name == "all.jsonl, cut 80/10/10 in its order"
    assert file.counts == {"all.jsonl": 3}
    packed = tmp_path / "all.json.gz"
    packed.write_bytes(gzip.compress((tmp_path / "all.jsonl").read_bytes()))
    asked = serve(monkeypatch, **splits_of(rows))
    hub = named_pairs("summaries", "datasets:abisee/cnn_dailymail:3.0.0")
    assert asked == [("abisee/cnn_dailymail", "3.0.0")]
    assert hub.name == "abisee/cnn_dailymail:3.0.0"
    assert hub.counts == {"train": 1, "valid": 1, "test": 1}
    for other in (file, hub, summary_pairs(str(packed))):
        assert (other.train, other.valid, other.test) == (folder.train, folder.valid, folder.test)
        assert other.sha256 == folder.sha256


def test_the_package_datasets_itself_reads_the_folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = str(write_folder(tmp_path / "xsum", XSUM))
    assert summary_pairs(f"datasets:{folder}").sha256 == summary_pairs(folder).sha256


@pytest.mark.parametrize(
    ("number", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (8, 1, 1)), (25, (20, 2, 3))]
)
def test_one_file_is_cut_in_its_order(tmp_path, number, sizes):
    rows = [{"document": f"text {n}", "summary": f"short {n}"} for n in range(number)]
    pairs = summary_pairs(str(write_lines(tmp_path / "a.jsonl", rows)))
    assert (len(pairs.train), len(pairs.valid), len(pairs.test)) == sizes
    sources = [pair.source for pair in (*pairs.train, *pairs.valid, *pairs.test)]
    assert sources == [row["document"] for row in rows]


def test_blank_lines_line_ends_and_a_byte_order_mark_are_no_part_of_the_pairs(tmp_path):
    lines = [json.dumps(row) for row in XSUM]
    content = "\ufeff" + "\r\n\r\n".join(lines)
    (tmp_path / "a.jsonl").write_bytes(content.encode())
    pairs = summary_pairs(str(tmp_path / "a.jsonl"))
    assert [*pairs.train, *pairs.valid, *pairs.test] == PAIRS


def test_pairs_of_a_dataset_without_a_text_are_left_out_and_said(monkeypatch):
    holes = [{**XSUM[0], "document": ""}, {**XSUM[0], "summary": None}, {**XSUM[0], "summary": " "}]
    serve(monkeypatch, **splits_of(XSUM) | {"train": Dataset([holes[0], XSUM[0], *holes[1:]])})
    pairs = summary_pairs("datasets:xsum")
    assert pairs.train == PAIRS[:1]
    assert pairs.name == "xsum, 3 left out that lack a source or a target"
    assert pairs.counts["train"] == 1


def test_pairs_are_read_without_a_second_copy_of_their_file(tmp_path):
    text = "word " * 400
    rows = [{"document": f"{n} {text}", "summary": f"short {n}"} for n in range(4000)]
    path = write_lines(tmp_path / "a.jsonl", rows)
    del rows
    size = path.stat().st_size
    tracemalloc.start()
    pairs = summary_pairs(str(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs.train) == 3200
    assert peak < 1.6 * size  # the texts once, and what is read at a time


BAD = [
    ('{"document": "a", "summary": ""}', "line 2 should hold a text as its summary, it holds noth"),
    ('{"document": " \\n", "summary": "b"}', "line 2 should hold a text as its document"),
    ('{"document": null, "summary": "b"}', "text as its document, it holds nothing"),
    ('{"summary": "b"}', "text as its document, it holds nothing"),
    ('{"document": ["a"], "summary": "b"}', "text as its document, it holds a list"),
    ('{"document": "a", "summary": 3}', "text as its summary, it holds a number"),
    ('{"document": "a", "summ', r"line 2: its JSON cannot be read \(Unterminated string"),
    ('{"document": "a", "summary": true}', "text as its summary, it holds true or false"),
    ('{"document": {}, "summary": "b"}', "text as its document, it holds an object"),
    ("3", "line 2 should hold a JSON object, it holds a number"),
    ("null", "line 2 should hold a JSON object, it holds nothing"),
    ('"a"', "line 2 should hold a JSON object, it holds a text"),
    ('["a", "b"]', "line 2 should hold a JSON object, it holds a list: each line is one JSON obj"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_line_that_is_no_pair_is_named(tmp_path, line, message):
    path = write_folder(tmp_path / "a", XSUM) / "train.jsonl"
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(WideneckError, match=rf"train\.jsonl, .*{message}"):
        summary_pairs(str(tmp_path / "a"))


def test_a_line_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"document": "caf\xe9", "summary": "b"}\n')
    with pytest.raises(WideneckError, match=r"a\.jsonl, line 1: its JSON cannot be read"):
        summary_pairs(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("document", "sumary"),
            "called 'summary'. Did you mean 'sumary'. Known: document, sumary. Pairs are read from "
            "document and summary, or from article and highlights: rename its columns.",
        ),
        (("articles", "highlights"), "called 'article'. Did you mean 'articles'. Known: articles,"),
        (("text", "title"), "called 'document'. Known: text, title"),
    ],
)
def test_other_names_of_columns_are_refused_with_the_nearest(tmp_path, monkeypatch, names, message):
    rows = [dict(zip(names, ("a long text", "a short one"), strict=True))] * 3
    with pytest.raises(WideneckError, match=rf"a\.jsonl, line 1 is {message}"):
        summary_pairs(str(write_lines(tmp_path / "a.jsonl", rows)))
    serve(monkeypatch, **splits_of(rows))
    with pytest.raises(WideneckError, match=rf"datasets:some/data is {message}"):
        summary_pairs("datasets:some/data")


def test_a_column_of_a_dataset_that_holds_no_text_is_refused(monkeypatch):
    splits = splits_of([{"document": "a", "summary": 3}] * 3)
    splits["train"] = Dataset([{"document": "a", "summary": 3}], summary="int64")
    serve(monkeypatch, **splits)
    with pytest.raises(WideneckError, match=r"'summary' of datasets:a holds no text; .* document"):
        summary_pairs("datasets:a")


def test_a_missing_split_is_refused(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "a", XSUM)
    (folder / "validation.jsonl").unlink()
    with pytest.raises(
        WideneckError,
        match=r"should hold a file of JSON lines with 'val' in its name \(.jsonl or .json, each "
        r"also .gz\), it holds test.jsonl, train.jsonl",
    ):
        summary_pairs(str(folder))
    serve(monkeypatch, train=Dataset(XSUM), validation=Dataset(XSUM))
    with pytest.raises(WideneckError, match="splits train, validation and test, it has train, val"):
        summary_pairs("datasets:a")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "'train' in its name .* it holds no file"),
        ({"train.txt": "a", "notes.md": "b"}, "'train' in its name .* it holds notes.md, train.tx"),
        (
            {"train.jsonl": "", "validation.jsonl": "", "test.jsonl": ""},
            r"a \(train split\) holds no pair of a source and a target",
        ),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, files, message):
    (tmp_path / "a").mkdir()
    for name, content in files.items():
        (tmp_path / "a" / name).write_text(content)
    with pytest.raises(WideneckError, match=message):
        summary_pairs(str(tmp_path / "a"))


def test_an_empty_split_is_refused(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "a", XSUM)
    (folder / "test.jsonl").write_text("\n")
    with pytest.raises(WideneckError, match=r"\(test split\) holds no pair"):
        summary_pairs(str(folder))
    blank = {**XSUM[0], "document": ""}
    serve(monkeypatch, **splits_of([XSUM[0], blank, XSUM[2]]))
    with pytest.raises(WideneckError, match=r"1 left out .* \(valid split\) holds no pair"):
        summary_pairs("datasets:a")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_too_few_pairs_to_be_cut_are_refused(tmp_path, number):
    path = write_lines(tmp_path / "a.jsonl", XSUM[:number])
    with pytest.raises(WideneckError, match=f"holds {number} pairs, too few to be cut into three"):
        summary_pairs(str(path))


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        WideneckError, match=r"There is no file or folder .*nowhere: give a file of"
    ):
        summary_pairs(str(tmp_path / "nowhere"))


def test_a_damaged_gzip_file_is_refused(tmp_path):
    packed = gzip.compress(json.dumps(XSUM[0]).encode() * 9, mtime=0)
    (tmp_path / "a.jsonl.gz").write_bytes(packed[:-9])
    with pytest.raises(WideneckError, match="cannot be unpacked"):
        summary_pairs(str(tmp_path / "a.jsonl.gz"))


def test_whole_texts_are_read_as_any_corpus_is(tmp_path):
    corpus = read_corpus(str(write_stories(tmp_path)))
    assert corpus.train == ("I was 2 when the lamp went out .\n\n`` Not again , '' I said .\n",)
    assert corpus.valid[0].startswith("I was 3")
    assert corpus.test is not None
    assert corpus.test[0].startswith("I was 4")
