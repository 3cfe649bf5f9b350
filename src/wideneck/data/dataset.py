"""The rows of a text dataset of the Hugging Face hub, through the package `datasets`.

`datasets` is imported only here, only when a text is named `datasets:...`; it downloads into its
usual cache.  Cost: all rows in memory, as strings.
"""

from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.text_file import check_size

SPLITS = {"train": "train", "validation": "valid", "test": "test"}
"""Its names for ours."""


def dataset_rows(text: str) -> dict[str, list[str]]:
    """The rows of each split, by our names, from `datasets:NAME` or `datasets:NAME:SUBSET`.

    Raises:
        WideneckError: `datasets` is not installed, the dataset cannot be loaded, it has no
            training or validation split, or no one column of text.
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
            "datasets`, or give the path of a text file or folder."
        ) from error
    mend = "check its name, its subset and the network"
    # Readers of a dozen formats and the hub's client raise here, each its own errors.  It is never
    # given trust_remote_code: code that a dataset brings is not run.
    with reading(text, "the dataset", mend):
        splits: Any = load_dataset(name, *subset)  # pyrefly: ignore
        return _rows(text, splits)


def _rows(text: str, splits: Any) -> dict[str, list[str]]:
    for split in ("train", "validation"):
        if split not in splits:
            raise WideneckError(
                f"{text} should have the splits train and validation (test if it likes), it has "
                f"{', '.join(splits)}."
            )
    found: dict[str, list[str]] = {}
    size = 0
    for theirs, ours in SPLITS.items():
        if theirs not in splits:
            continue
        rows = found[ours] = []
        for row in splits[theirs][_column(text, splits[theirs])]:
            rows.append(row or "")  # some are null
            size += len(rows[-1])
            check_size(text, size)
    return found


def _column(text: str, split: Any) -> str:
    """The column called text, or the only column of strings."""
    strings = [
        name
        for name, feature in split.features.items()
        if getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    if "text" in strings:
        return "text"
    if len(strings) != 1:
        raise WideneckError(
            f"{text} should have a column 'text', or one column of strings; its columns of strings "
            f"are {', '.join(strings) or 'none'}."
        )
    return strings[0]
