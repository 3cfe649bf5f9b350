"""Blocks of a paper's page as its TOML has them, and what is left out of it."""

from types import SimpleNamespace

import pytest

from wideneck.lab.found import _blocks
from wideneck.lab.tables import Theirs, table

COLUMNS = [["", "{name}"], ["loss", "{loss:.1f}"], ["{sign}", "{same}", ""]]
ROWS = [SimpleNamespace(name="a", loss=1.25, same="yes"), Theirs("paper", {"loss": "1.3"})]


def shown(sign, rows=ROWS):
    known, said = {"arms[].loss": ""}, {"sign": sign, "text": "T"}
    one = {"part": "arms", "caption": "On {text}", "columns": COLUMNS, "fields": "arms[]"}
    return _blocks(known, said, {"arms": rows}, **one)


def test_a_table_has_its_caption_its_columns_and_the_definition_of_each():
    (found,) = shown("sign")
    assert found.caption == "On T"
    assert [column.text for column in found.columns] == ["loss", "sign"]
    assert [column.path for column in found.columns] == ["arms[].loss", ""]
    assert [(label, [*cells]) for label, _, cells in found.rows] == [
        ("a", ["1.2", "yes"]),
        ("paper", ["1.3", ""]),
    ]
    assert [*found.beside] == [1]


def test_a_column_without_a_head_and_a_table_without_a_row_are_left_out():
    (found,) = shown("")
    assert [column.text for column in found.columns] == ["loss"]
    assert [*found.rows[0][2]] == ["1.2"]
    assert not shown("sign", [])


def test_a_sentence_that_comes_out_empty_is_left_out():
    assert len(_blocks({}, {"small": "A small model."}, {}, text="{small}")) == 1
    assert not _blocks({}, {"small": ""}, {}, text="{small}")


def test_the_paper_s_row_is_left_out_where_no_column_writes_what_it_has():
    found = table("ranks", ROWS, [("", "{name}"), ("same", "{same}")])
    assert [row[0] for row in found.rows] == ["a"]


def test_only_a_table_that_says_what_stands_for_none_may_lack_a_figure():
    rows = [SimpleNamespace(name="a", loss=None)]
    columns = [("", "{name}"), ("loss", "{loss:.1f}"), ("bound", "{bound:.1f}")]
    assert [*table("", rows, columns, none="-").rows[0][2]] == ["-", "-"]
    assert [*table("", rows, columns[:2]).rows[0][2]] == [""]
    with pytest.raises(AttributeError):
        table("", rows, columns)
