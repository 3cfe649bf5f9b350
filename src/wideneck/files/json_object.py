"""A stranger's JSON, with bounds on what it may make a reader do."""

import json
import math
from pathlib import Path
from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.regular import size_of_regular

LARGEST = 256 * 2**20
"""Bytes of a JSON file: an index of a million tensors has a third of that."""
DEEPEST = 64
"""Levels of nesting; a config of a model has five."""
LARGEST_WHOLE = 2**63 - 1
"""No count or size of a model is larger, and what is reads as a mistake."""
LARGEST_NUMBER = 2**127 - 1
"""No whole number of JSON is larger.  Beside the sizes there are seeds of 64 bits without a sign,
and the int(1e30) that transformers writes as `model_max_length` where there is no limit."""


def read_object(
    path: Path, name: str, mend: str = "download it again", *, finite: bool = False
) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        path: the file.
        name: what messages call it.
        mend: what to do where it is damaged.
        finite: whether NaN and infinity are refused.  Our own files hold none; configs of Mamba do.

    Raises:
        WideneckError: it is no regular file, too large, not UTF-8, no JSON, nested deeper than
            `DEEPEST`, holds a number beyond `LARGEST_NUMBER`, or is no object.
    """
    check_json_file(path, name)
    with reading(name, "its JSON", mend):
        content = path.read_bytes()
    return parse_object(content, name, mend, finite=finite)


def check_json_file(path: Path, name: str) -> None:
    """Refuse what is no regular file, or larger than any JSON of a model, whoever reads it then.

    Raises:
        WideneckError: it is.
    """
    size = size_of_regular(path, "a JSON file")
    if size > LARGEST:
        raise WideneckError(f"{name} has {size:,} bytes, and JSON of a model at most {LARGEST:,}.")


def parse_object(
    content: bytes, name: str, mend: str = "download it again", *, finite: bool = False
) -> dict[str, Any]:
    """The object in the bytes of a JSON file, as `read_object`."""
    with reading(name, "its JSON", mend):
        if not content.strip():
            raise ValueError("the file is empty")
        # utf-8-sig: a byte order mark is no part of a text.
        value = json.loads(content.decode("utf-8-sig"))
    if not isinstance(value, dict):
        raise WideneckError(
            f"{name} should hold a JSON object, it holds {in_words(value)}: {mend}."
        )
    _check_bounds(value, name, mend, finite)
    return value


def in_words(value: Any) -> str:
    """What kind of JSON a value is, for a message."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return "nothing" if value is None else kinds.get(type(value), "a number")


def _check_bounds(value: Any, name: str, mend: str, finite: bool) -> None:
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in level:
            inner = one.values() if isinstance(one, dict) else one
            for x in inner:
                if isinstance(x, dict | list):
                    below.append(x)
                elif isinstance(x, int) and abs(x) > LARGEST_NUMBER:
                    raise WideneckError(
                        f"{name} holds a whole number of {x.bit_length()} bits, which is no number "
                        f"of a model: {mend}."
                    )
                elif finite and isinstance(x, float) and not math.isfinite(x):
                    raise WideneckError(f"{name} holds {x}, which is no number: {mend}.")
        if not below:
            return
        level = below
    raise WideneckError(f"{name} is nested deeper than {DEEPEST} levels: {mend}.")
