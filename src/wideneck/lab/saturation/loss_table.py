"""A table of losses of models of many sizes, from a CSV file or as read off the paper's figures."""

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wideneck.audits.measure import measure
from wideneck.errors import WideneckError
from wideneck.files.text_file import read_text_file
from wideneck.registry import LARGEST_NUMBER, did_you_mean, shown


@dataclass(frozen=True, kw_only=True)
class LossRow:
    """One model at one point of its training."""

    name: str = measure("the model")
    num_parameters: int = measure("all parameters N, embeddings and output layer included")
    num_embedding_parameters: int = measure("those of the embeddings and of the output layer")
    tokens: float = measure("training tokens T, repeated ones counted again", unit="tokens")
    loss: float = measure("mean -log p of held-out text", unit="nats per token")
    fitted: bool = measure("whether the law is fitted on this row; else its gap to it is told")


COLUMNS = [field.name for field in fields(LossRow)]

LARGEST = 16 * 2**20
"""Bytes of a table."""
_TOKENS = 3e11
_VOCAB_SIZE = 50_304


def _pythia(name: str, d: int, num_parameters: float, loss: float) -> LossRow:
    return LossRow(
        name=name,
        num_parameters=round(num_parameters),
        num_embedding_parameters=2 * _VOCAB_SIZE * d,
        tokens=_TOKENS,
        loss=loss,
        fitted=False,
    )


# Losses are read off Figure 1a, to about 0.01 nats.  The first four N are derived from the floating
# point operations on the axis of Figure 1b, 6 N T, to three digits; that of 410M from its released
# configuration: d = 1024, 24 layers, an MLP of 4 d, biases everywhere.
PYTHIA = [
    _pythia("Pythia-14M", 128, 2.53e19 / (6 * _TOKENS), 4.363),
    _pythia("Pythia-31M", 256, 5.49e19 / (6 * _TOKENS), 4.00),
    _pythia("Pythia-70M", 512, 1.27e20 / (6 * _TOKENS), 3.635),
    _pythia("Pythia-160M", 768, 2.92e20 / (6 * _TOKENS), 3.237),
    _pythia("Pythia-410M", 1024, 405_334_016, 2.83),
]
"""Final losses of the paper's small models, none of them fitted: it fits A and alpha on 410M and
larger, and the losses of the larger ones were not read."""


def read_losses(path: str | os.PathLike) -> list[LossRow]:
    """The rows of a CSV file in UTF-8 whose first line names the columns `COLUMNS`, in any order.

    Numbers may be written as 1.4e10; `fitted` is true or false.

    Raises:
        WideneckError: the file is missing or not text, a column is missing or unknown, or a value
            is not what its column holds, with the line.
    """
    path = Path(path)
    content = read_text_file(path, "table of losses", LARGEST)
    reader = csv.DictReader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    try:
        _check_header(path, reader.fieldnames or ())
        rows = [_row(f"{path}, line {reader.line_num}", line) for line in reader]
    except csv.Error as error:
        line = reader.reader.line_num  # the line that broke, not the last whole one
        raise WideneckError(f"{path}, line {line}: not CSV ({error}).") from None
    if not rows:
        raise WideneckError(f"{path} holds no row below its header; give one a model.")
    return rows


def _check_header(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise WideneckError(
                f"{path}, line 1: a table of losses has no column '{name}'."
                f"{did_you_mean(name, COLUMNS)}"
            )
    missing = [name for name in COLUMNS if name not in names]
    if missing or len(names) != len(COLUMNS):
        wrong = f"{', '.join(missing)} missing" if missing else "a column comes twice"
        raise WideneckError(
            f"{path}, line 1: expected the columns {','.join(COLUMNS)}, but {wrong}."
        )


def _row(where: str, line: dict[str | Any, Any]) -> LossRow:
    if None in line or None in line.values():
        raise WideneckError(f"{where}: expected {len(COLUMNS)} values, as in the header.")
    row = LossRow(
        **{
            field.name: READERS[field.type](f"{where}: {field.name}", line[field.name].strip())
            for field in fields(LossRow)
        }
    )
    if row.num_embedding_parameters >= row.num_parameters:
        raise WideneckError(
            f"{where}: num_parameters is the total and num_embedding_parameters a part of it, got "
            f"{row.num_parameters:,} and {row.num_embedding_parameters:,}."
        )
    return row


def _name(column: str, text: str) -> str:
    if not text:
        raise WideneckError(f"{column} needs a name, got nothing.")
    return text


def _number(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise WideneckError(f"{column} needs a finite number > 0, got {shown(text)}.")
    if value > LARGEST_NUMBER:
        raise WideneckError(
            f"{column} needs a number of at most {LARGEST_NUMBER:g}, got {shown(text)}."
        )
    return value


def _count(column: str, text: str) -> int:
    value = 0.0 if text == "0" else _number(column, text)
    if value != int(value):
        raise WideneckError(f"{column} needs a whole number, got {shown(text)}.")
    return int(value)


def _flag(column: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise WideneckError(f"{column} needs true or false, got {shown(text)}.")
    return text.lower() == "true"


READERS: dict[Any, Callable[[str, str], Any]] = {
    str: _name,
    int: _count,
    float: _number,
    bool: _flag,
}
