"""LogicNLG as it is released, its tables as text, and what is refused."""

import json
import random
from decimal import Decimal
from fractions import Fraction

import pytest

from lab.tasks.stand_ins import SENTENCES, TABLES, write_logic_nlg
from wideneck.errors import WideneckError
from wideneck.lab.tasks.logic_nlg import logic_nlg_pairs
from wideneck.lab.tasks.named_data import named_pairs
from wideneck.lab.tasks.serialized import MARKS, date, numbers, serialized


def cell(text, column, row, *ranks):
    marked = " ".join(
        f"<{name}> {rank} </{name}>"
        for name, rank in zip(("max_rank", "min_rank"), ranks, strict=False)
    )
    header = f"<col_header> {column} </col_header> <row_idx> {row} </row_idx>"
    return " ".join(filter(None, ("<cell>", text, header, marked, "</cell>")))


def test_the_text_of_a_table_by_hand(tmp_path):
    pairs = named_pairs("data-to-text", str(write_logic_nlg(tmp_path)))
    assert pairs.counts == {"train_lm.json": 2, "val_lm.json": 2, "test_lm.json": 2}
    assert [pair.target for pair in pairs.test] == [sentence[0] for sentence in SENTENCES]
    points = "<col_header> points </col_header>"
    assert pairs.train[0].source == " ".join(
        (
            "<table> <caption> northern league </caption>",
            f"<sum_cell> 8 {points} </sum_cell> <avg_cell> 2.67 {points} </avg_cell>",
            cell("Green Rovers", "club", 0),
            cell("2", "points", 0, 2, -1),
            cell("Red Town", "club", 1),
            cell("4", "points", 1, 1, -3),
            cell("Blue City", "club", 2),
            cell("2", "points", 2, 2, -1),
            "</table>",
        )
    )
    assert pairs.train[1].source == " ".join(
        (
            "<table> <caption> northern league </caption>",
            cell("3 May 1901", "founded", 0, 2, -2),
            cell("Green Rovers", "club", 0),
            cell("12 April 1899", "founded", 1, 3, -1),
            cell("Red Town", "club", 1),
            cell("August 1910", "founded", 2, 1, -3),
            cell("Blue City", "club", 2),
            "</table>",
        )
    )
    assert pairs.train[0].source != pairs.valid[0].source != pairs.test[0].source


def test_all_files_may_lie_in_data(tmp_path):
    whole = logic_nlg_pairs(str(write_logic_nlg(tmp_path)))
    (tmp_path / "all_csv").rename(tmp_path / "data" / "all_csv")
    for folder in (tmp_path, tmp_path / "data"):
        assert logic_nlg_pairs(str(folder)).sha256 == whole.sha256


def test_every_mark_of_a_text_is_one_to_be_added(tmp_path):
    pairs = logic_nlg_pairs(str(write_logic_nlg(tmp_path)))
    seen = {word for pair in pairs.train for word in pair.source.split() if word[0] == "<"}
    assert seen == set(MARKS)


def test_ranks_sums_and_averages_are_those_of_the_column():
    rng = random.Random(5)
    for _ in range(50):
        values = [Fraction(rng.randint(-60, 60), 4) for _ in range(rng.randint(1, 7))]
        rows = [[str(Decimal(v.numerator) / v.denominator)] for v in values]
        words = serialized("t", ["x"], rows, [0]).split()
        found = {
            mark: [Fraction(words[i + 1]) for i, word in enumerate(words) if word == f"<{mark}>"]
            for mark in ("sum_cell", "avg_cell", "max_rank", "min_rank")
        }
        assert found["sum_cell"] == [sum(values)]
        assert abs(found["avg_cell"][0] - sum(values) / len(values)) <= Fraction(1, 200)
        assert found["max_rank"] == [1 + sum(o > v for o in values) for v in values]
        assert found["min_rank"] == [-1 - sum(o < v for o in values) for v in values]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["3", "1,200", "-5", "+7"], ["3", "1200", "-5", "7"]),
        (["0.1", "0.20"], ["0.1", "0.2"]),
        (["1st", "2nd", "23rd"], ["1", "2", "23"]),
        (["5 km", "7 km"], ["5", "7"]),
        (["5 km", "7 m"], None),  # no common unit
        (["5", "7 (2)"], None),  # two numbers
        (["5", "n / a"], None),
        (["5", ""], None),
        (["- 5", "- 7"], None),  # hyphens, or minus signs
        (["1234567890123456", "1234567890123457"], None),  # names
        ([], None),
    ],
)
def test_which_columns_hold_numbers(cells, expected):
    found = numbers(cells)
    assert found == (expected and [Decimal(number) for number in expected])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 may 1901", (1901, 5, 3)),
        ("September 20 , 1981 (retired)", (1981, 9, 20)),
        ("sept 27", (0, 9, 27)),
        ("oct 2013", (2013, 10, 0)),
        ("maya 1990", None),
        ("1990", None),
    ],
)
def test_which_cells_hold_dates(text, expected):
    assert date(text) == expected


def test_dates_have_no_sum_and_a_column_with_one_that_is_none_has_no_ranks():
    text = serialized("t", ["when"], [["3 may 1901"], ["unknown"]], [0])
    assert "rank" not in text
    assert "sum_cell" not in serialized("t", ["when"], [["3 may 1901"], ["may 1902"]], [0])


@pytest.mark.parametrize("name", ["train_lm.json", "val_lm.json", "test_lm.json"])
def test_a_missing_file_is_refused(tmp_path, name):
    (write_logic_nlg(tmp_path) / "data" / name).unlink()
    with pytest.raises(
        WideneckError, match=f"should hold {name}, itself or in data/, it holds all"
    ):
        logic_nlg_pairs(str(tmp_path))


def test_packed_tables_are_refused(tmp_path):
    folder = write_logic_nlg(tmp_path)
    (folder / "all_csv").rename(folder / "all_csv.zip")
    with pytest.raises(WideneckError, match=r"hold all_csv, .* all_csv.zip, data: unpack all_csv"):
        logic_nlg_pairs(str(tmp_path))


def test_a_missing_table_is_refused(tmp_path):
    name = next(iter(TABLES))
    (write_logic_nlg(tmp_path) / "all_csv" / name).unlink()
    with pytest.raises(WideneckError, match=f"table {name} is missing: .* unpack all of all_csv"):
        logic_nlg_pairs(str(tmp_path))


@pytest.mark.parametrize("data", ["datasets:some/logicnlg", "nowhere"])
def test_what_is_no_folder_is_refused(data):
    with pytest.raises(WideneckError, match=f"reads LogicNLG from a folder .* and {data} is none"):
        logic_nlg_pairs(data)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([["", [0], "t", "[ENT]"]], "sentence 1 should be .* with a sentence in it"),
        ([SENTENCES[0], ["a b", [0]]], "sentence 2 should be"),
        ([["a b", "0", "t", ""]], "sentence 1 should be"),
        ("a b", "should be"),
        ([["a b", [4], "t", ""]], "sentence 1 is about column 4, and its table has columns 0 to 3"),
        ([["a b", [True], "t", ""]], "sentence 1 is about column True"),
        ([["a b", [-1], "t", ""]], "sentence 1 is about column -1"),
        ([], r"\(valid split\) holds no pair"),
    ],
)
def test_a_sentence_that_is_none_is_named(tmp_path, sentences, message):
    path = write_logic_nlg(tmp_path) / "data" / "val_lm.json"
    path.write_text(json.dumps({name: sentences for name in json.loads(path.read_text())}))
    with pytest.raises(WideneckError, match=message):
        logic_nlg_pairs(str(tmp_path))


def test_a_table_s_name_leads_nowhere_else(tmp_path):
    path = write_logic_nlg(tmp_path) / "data" / "val_lm.json"
    path.write_text(json.dumps({"../data/val_lm.json": SENTENCES}))
    with pytest.raises(WideneckError, match=r"table \.\./data/val_lm.json should be"):
        logic_nlg_pairs(str(tmp_path))


def test_damaged_json_is_refused_with_its_line(tmp_path):
    path = write_logic_nlg(tmp_path) / "data" / "train_lm.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(WideneckError, match=r"train_lm.json: its JSON cannot be read .* line 1\d"):
        logic_nlg_pairs(str(tmp_path))


def test_a_row_with_other_cells_is_refused_with_its_line(tmp_path):
    path = write_logic_nlg(tmp_path) / "all_csv" / next(iter(TABLES))
    path.write_text(f"{TABLES[path.name]}grey park#3\n")
    with pytest.raises(WideneckError, match="line 5 has 2 cells, and line 1 names 4 columns"):
        logic_nlg_pairs(str(tmp_path))
