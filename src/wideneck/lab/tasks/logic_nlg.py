"""LogicNLG (Chen et al. 2020) as it is released: sentences in JSON, and a file for each table.

train_lm.json, val_lm.json and test_lm.json hold for each table's file name a list of
[sentence, numbers of the columns that it is about, title of the table, template]; all_csv/, which
is to be unpacked, holds the tables: a line of names and a line a row, "#" between cells.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wideneck.data.text import is_blank
from wideneck.errors import WideneckError
from wideneck.files.json_object import read_object
from wideneck.files.printable import listed
from wideneck.files.text_file import read_text_file
from wideneck.lab.tasks.pairs import Pair, Pairs, of_splits
from wideneck.lab.tasks.serialized import MARKS, serialized

FILES = {"train": "train_lm.json", "valid": "val_lm.json", "test": "test_lm.json"}
TABLES = "all_csv"
LARGEST = 2**24
"""Bytes of a table."""
MEND = "take it from LogicNLG's repository again"


def logic_nlg_pairs(data: str) -> Pairs:
    """Sources are tables as text, the columns that the sentence is about (`serialized`).

    Args:
        data: a folder that holds the three files and all_csv/, each itself or in its data/: a
            clone of the repository in which all_csv.zip was unpacked.

    Raises:
        WideneckError: it is no folder or lacks a file; a file is damaged; a sentence is empty or
            about a column that its table has not; a table is missing, or its rows differ in length.

    Cost: the sources in memory; those of one table and the same columns are one string.
    """
    folder = Path(os.path.expanduser(data))
    if data.startswith("datasets:") or not os.path.isdir(folder):
        raise WideneckError(
            f"data-to-text reads LogicNLG from a folder with {', '.join(FILES.values())} and "
            f"{TABLES}/, and {data} is none: give a clone of its repository."
        )
    paths = {split: _found(folder, name) for split, name in FILES.items()}
    tables = _found(folder, TABLES)
    splits = {split: list(_pairs(path, tables)) for split, path in paths.items()}
    counts = {FILES[split]: len(pairs) for split, pairs in splits.items()}
    return of_splits(data, splits, counts, marks=MARKS)


def _found(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / "data" / name):
        if os.path.exists(path):
            return path
    mend = "unpack all_csv.zip there" if name == TABLES else MEND
    names = sorted(os.listdir(folder))
    raise WideneckError(
        f"{folder} should hold {name}, itself or in data/, it holds {listed(names) or 'nothing'}: "
        f"{mend}."
    )


def _pairs(path: Path, tables: Path) -> Iterator[Pair]:
    for table, sentences in read_object(path, str(path), MEND).items():
        where = f"{path}, table {table}"
        if not isinstance(sentences, list) or Path(table).name != table:
            raise _unlike(where)
        names, *rows = _table(tables / table, where)
        sources: dict[tuple[str, tuple[int, ...]], str] = {}
        for number, entry in enumerate(sentences, 1):
            target, columns, title = _entry(entry, f"{where}, sentence {number}", len(names))
            if (title, columns) not in sources:
                sources[title, columns] = serialized(title, names, rows, columns)
            yield Pair(sources[title, columns], target, origin=table)


def _entry(entry: Any, where: str, num_columns: int) -> tuple[str, tuple[int, ...], str]:
    """Sentence, columns and title; a template behind them is not asked for."""
    match entry:
        case [str(target), list(columns), str(title), *_] if not is_blank(target):
            pass
        case _:
            raise _unlike(where)
    for column in columns:
        if type(column) is not int or not 0 <= column < num_columns:
            raise WideneckError(
                f"{where} is about column {column!r}, and its table has columns 0 to "
                f"{num_columns - 1}: {MEND}."
            )
    return target, tuple(columns), title


def _table(path: Path, where: str) -> list[list[str]]:
    """Names of the columns, and the rows."""
    if not path.exists():
        raise WideneckError(
            f"{where} is missing: there is no {path}; unpack all of all_csv.zip there."
        )
    lines = read_text_file(path, "table", LARGEST).rstrip("\n").split("\n")
    rows = [[cell.strip() for cell in line.split("#")] for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise WideneckError(
                f"{path}, line {number} has {len(row)} cells, and line 1 names {len(rows[0])} "
                f"columns: {MEND}."
            )
    return rows


def _unlike(where: str) -> WideneckError:
    return WideneckError(
        f"{where} should be [sentence, numbers of columns, title, template] with a sentence in it: "
        f"{MEND}."
    )
