"""Data that the user names: pairs of a text and its summary, of a table and a sentence about it.

Continuation takes whole texts, and `wideneck.data.read_corpus` reads those, WritingPrompts too.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from wideneck.data.dataset import dataset_columns
from wideneck.data.split_files import split_files
from wideneck.data.text import is_blank
from wideneck.errors import WideneckError
from wideneck.files.json_object import in_words, parse_object
from wideneck.files.printable import listed
from wideneck.files.text_file import file_lines
from wideneck.lab.tasks.logic_nlg import logic_nlg_pairs
from wideneck.lab.tasks.pairs import Pair, Pairs, of_splits
from wideneck.registry import did_you_mean

COLUMNS = (("document", "summary"), ("article", "highlights"))
"""Source and target, as XSum has them, and CNN/DailyMail."""
KIND = "file of JSON lines"
ENDINGS = (".jsonl", ".json")
MENDED = "each line is one JSON object with a source and a target"
SPLITS = ("train", "valid", "test")


def named_pairs(task: str, data: str) -> Pairs:
    """The pairs of a task that are named by `--data`.

    Args:
        task: summaries or data-to-text.
        data: what `summary_pairs` or `logic_nlg_pairs` takes.

    Raises:
        WideneckError: as those two.
    """
    readers: dict[str, Callable[[str], Pairs]] = {
        "summaries": summary_pairs,
        "data-to-text": logic_nlg_pairs,
    }
    return readers[task](data)


def summary_pairs(data: str) -> Pairs:
    """Pairs from columns document and summary (XSum), or article and highlights (CNN/DailyMail).

    Args:
        data: one of

            - `datasets:NAME` or `datasets:NAME:SUBSET`, as `datasets:EdinburghNLP/xsum` and
              `datasets:abisee/cnn_dailymail:3.0.0`, with splits train, validation and test.  Pairs
              without a source or a target are left out, as the released run_summarization.py
              leaves them out, and `name` says how many.
            - a folder with one file of JSON lines each whose name holds "train", "valid" (or
              "val", "validation") and "test"; .jsonl or .json, each also .gz.
            - one file of JSON lines, which may be .gz: its first 80 % of pairs are for training,
              the next 10 % for validation, the rest for the test, in the order of the file.

    Raises:
        WideneckError: nothing is there, a split is missing or empty, a line is no JSON object or
            its source or target is no text (with the line), or columns have other names.

    Cost: the texts in memory, as strings, and some 400 bytes a pair besides; a file is read by
    lines.
    """
    if data.startswith("datasets:"):
        return _of_dataset(data)
    path = Path(os.path.expanduser(data))
    if os.path.isdir(path):
        files = split_files(path, KIND, ENDINGS, needed=("train", "val", "test"))
        splits = {split: list(_of_lines(files[split])) for split in SPLITS}
        counts = {files[split].name: len(splits[split]) for split in SPLITS}
        return of_splits(data, splits, counts)
    if not os.path.exists(path):
        raise WideneckError(
            f"There is no file or folder {data}: give a {KIND}, a folder with one for each split, "
            "or datasets:NAME for a dataset of the Hugging Face hub."
        )
    return _cut(path.name, list(_of_lines(path)))


def _of_dataset(data: str) -> Pairs:
    name = data.removeprefix("datasets:")
    rows = dataset_columns(
        data,
        lambda strings, columns: _columns(data, columns, strings),
        needed=("train", "validation", "test"),
    )
    splits = {
        split: [
            Pair(source, target)
            for source, target in rows[split]
            if not (is_blank(source) or is_blank(target))
        ]
        for split in SPLITS
    }
    counts = {split: len(pairs) for split, pairs in splits.items()}
    left = sum(map(len, rows.values())) - sum(counts.values())
    said = f", {left:,} left out that lack a source or a target" if left else ""
    return of_splits(name + said, splits, counts)


def _of_lines(path: Path) -> Iterator[Pair]:
    """The pairs of a file of JSON lines; blank lines are none."""
    columns: tuple[str, str] | None = None
    for number, line in enumerate(file_lines(path, KIND), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = parse_object(line, where, MENDED)
        source, target = columns = columns or _columns(where, list(row), list(row))
        yield Pair(_text(where, row, source), _text(where, row, target))


def _text(where: str, row: dict, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or is_blank(value):
        found = "nothing" if isinstance(value, str) else in_words(value)
        raise WideneckError(
            f"{where} should hold a text as its {column}, it holds {found}: mend the line, or "
            "leave it out."
        )
    return value


def _columns(where: str, columns: list[str], strings: list[str]) -> tuple[str, str]:
    """Names of source and target.

    Args:
        where: what messages call what has the columns.
        columns: all there are.
        strings: those of text.
    """
    # Where neither pair is whole, the one that is nearer to it is asked for.
    pair = max(COLUMNS, key=lambda names: sum(name in columns for name in names))
    for name in pair:
        if name not in columns:
            raise WideneckError(
                f"No column of {where} is called '{name}'.{did_you_mean(name, columns)} Pairs are "
                f"read from {_either()}: rename its columns."
            )
        if name not in strings:
            raise WideneckError(
                f"The column '{name}' of {where} holds no text; its columns of text are "
                f"{listed(strings) or 'none'}."
            )
    return pair


def _either() -> str:
    return ", or from ".join(" and ".join(pair) for pair in COLUMNS)


def _cut(name: str, pairs: list[Pair]) -> Pairs:
    """One list as three splits, none of them empty."""
    if len(pairs) < len(SPLITS):
        raise WideneckError(
            f"{name} holds {len(pairs)} pairs, too few to be cut into three splits; give more, or "
            "a folder with a file for each split."
        )
    first = min(max(round(0.8 * len(pairs)), 1), len(pairs) - 2)
    second = min(max(round(0.9 * len(pairs)), first + 1), len(pairs) - 1)
    parts = pairs[:first], pairs[first:second], pairs[second:]
    splits = dict(zip(SPLITS, parts, strict=True))
    return of_splits(f"{name}, cut 80/10/10 in its order", splits, {name: len(pairs)})
