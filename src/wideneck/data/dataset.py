"""Columns of text of a dataset of the Hugging Face hub, through the package `datasets`.

`datasets` is imported only here, only when data are named `datasets:...`; it downloads into its
usual cache.  Cost: all rows in memory, as strings.
"""

from collections.abc import Callable, Iterator
from typing import Any

from wideneck.data import stories
from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.text_file import check_size

SPLITS = {"train": "train", "validation": "valid", "test": "test"}
"""Its names for ours."""
Rows = list[tuple[str, ...]]


def dataset_rows(text: str) -> dict[str, list[str]]:
    """The texts of each split, by our names, from `datasets:NAME` or `datasets:NAME:SUBSET`.

    They are in the column called text or story, or in the only one of strings.

    Raises:
        WideneckError: as `dataset_columns`; or there is no one column of text.
    """
    found = dataset_columns(text, lambda strings, _: (_text_column(text, strings),))
    return {split: [row for (row,) in rows] for split, rows in found.items()}


def dataset_columns(
    text: str,
    choose: Callable[[list[str], list[str]], tuple[str, ...]],
    needed: tuple[str, ...] = ("train", "validation"),
) -> dict[str, Rows]:
    """Some columns of each split, by our names; what is null is an empty text.

    Args:
        text: `datasets:NAME` or `datasets:NAME:SUBSET`.
        choose: given the names of the columns of strings and of all columns, those to be read.
        needed: the dataset's names of splits that must be there.

    Raises:
        WideneckError: `datasets` is not installed, the dataset cannot be loaded, it lacks a split
            that is needed, or `choose` raised.
    """
    _, name, *subset = text.split(":")
    if not name or len(subset) > 1:
        raise WideneckError(
            f"{text} names no dataset: expected datasets:NAME or datasets:NAME:SUBSET, such as "
            "datasets:Salesforce/wikitext:wikitext-2-v1."
        )
    try:
        from datasets import load_dataset  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise WideneckError(
            f"{text} needs the package datasets, which is not installed: run `pip install "
            "datasets`, or give the path of a file or folder."
        ) from error
    mend = "check its name, its subset and the network"
    # Readers of a dozen formats and the hub's client raise here, each its own errors.  It is never
    # given trust_remote_code: code that a dataset brings is not run.
    with reading(text, "the dataset", mend):
        splits: Any = load_dataset(name, *subset)  # pyrefly: ignore
        return _rows(text, splits, choose, needed)


def _rows(text: str, splits: Any, choose: Callable, needed: tuple[str, ...]) -> dict[str, Rows]:
    if any(split not in splits for split in needed):
        *others, last = needed
        perhaps = "" if "test" in needed else " (test if it likes)"
        raise WideneckError(
            f"{text} should have the splits {', '.join(others)} and {last}{perhaps}, it has "
            f"{', '.join(splits)}."
        )
    found: dict[str, Rows] = {}
    size = 0
    for theirs, ours in SPLITS.items():
        if theirs not in splits:
            continue
        features = splits[theirs].features
        strings = [name for name, feature in features.items() if _is_text(feature)]
        columns = [_texts(splits[theirs], name) for name in choose(strings, list(features))]
        rows = found[ours] = []
        for row in zip(*columns, strict=True):
            rows.append(row)
            size += sum(map(len, row))
            check_size(text, size)
    return found


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _texts(split: Any, column: str) -> Iterator[str]:
    for row in split[column]:
        row = row or ""  # some are null
        yield stories.story(row) if column == stories.COLUMN else row


def _text_column(text: str, strings: list[str]) -> str:
    """The column called text, that of stories, or the only column of strings."""
    for known in ("text", stories.COLUMN):
        if known in strings:
            return known
    if len(strings) != 1:
        raise WideneckError(
            f"{text} should have a column 'text', or one column of strings; its columns of strings "
            f"are {', '.join(strings) or 'none'}."
        )
    return strings[0]
