"""TOML to a recipe, with the file and the line of whatever is wrong.

TOML, not YAML, which reads 1e-3 as a string.  tomllib does not tell where a key stands, so the
line is looked for in the text; within an inline table it is that of the table.
"""

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from wideneck import config as heads
from wideneck.data.config import Data
from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.text_file import read_text_file
from wideneck.models.small.config import model_config
from wideneck.registry import check_option, shown
from wideneck.training.optimizers import optimizer_config
from wideneck.training.recipe import Recipe, Schedule, Watching

TABLES: dict[str, Callable[[Any], Any]] = {
    "data": lambda given: _single(given, Data, "[data]"),
    "model": model_config,
    "head": heads.head_config,
    "optimizer": optimizer_config,
    "training": lambda given: _single(given, Schedule, "[training]"),
    "watch": lambda given: _single(given, Watching, "[watch]"),
}
"""What makes the config of each table."""

LARGEST = 2**15
"""Bytes of a recipe, which has some hundred; tomllib takes seconds for a longer dotted key."""
MOST = 1000
"""Settings of a recipe, items of lists included."""
DEEPEST = 16
"""Levels of nesting."""
NEEDED = ("model", "name")
"""Keys without which there is another mistake."""

KEY = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
DOTTED = rf"\s*({KEY}(?:\s*\.\s*{KEY})*)\s*"
HEADER, SETTING = re.compile(rf"\s*\[{DOTTED}\]"), re.compile(rf"{DOTTED}=")


def read_recipe(
    path: str | Path,
    *,
    text: str | None = None,
    seed: int | None = None,
    check: Callable[[Recipe], None] = lambda recipe: None,
) -> Recipe:
    """The recipe in a file.

    Args:
        path: a TOML file.
        text: in place of that of its [data].
        seed: in place of its own.
        check: refuses recipes that are wrong in another way, such as by what transformers says of
            them, by a WideneckError; may be called several times.

    Raises:
        WideneckError: the file is missing, too large, is no TOML, or has an unknown key, a value
            of the wrong type or out of range; the message names the file and the line.
    """
    path = Path(path)
    source = read_text_file(path, "recipe", LARGEST)
    # Before it is parsed, which takes a time and a memory that grow with the square of the dots.
    if any(line.partition("=")[0].count(".") > DEEPEST for line in source.split("\n")):
        raise _too_deep(path)
    with reading(path, "its TOML", "mend it"):
        try:
            content = tomllib.loads(source)
        except tomllib.TOMLDecodeError as error:
            raise WideneckError(
                f"{path} is not TOML: {error}; a recipe is (docs/train.md)."
            ) from None
    _check_size(path, content)
    if text is not None and isinstance(content.get("data", {}), dict):
        content["data"] = {**content.get("data", {}), "text": text}
    if seed is not None:
        content["seed"] = seed

    def make(content: dict[str, Any]) -> Recipe:
        made = recipe(content)
        check(made)
        return made

    with reading(path, "a setting", "mend it"):
        try:
            return make(content)
        except WideneckError as error:
            line = _line_of(source, _to_blame(content, make, str(error)))
            where = f"{path}, line {line}" if line else str(path)
            raise WideneckError(f"{where}: {error}") from None


def _check_size(path: Path, content: dict[str, Any]) -> None:
    """Refuse a recipe in which the search for a mistake, or a walk by recursion, would not end."""
    level: list[Any] = [content]
    settings = 0
    for _ in range(DEEPEST):
        level = [x for one in level for x in (one.values() if isinstance(one, dict) else one)]
        settings += len(level)
        level = [x for x in level if isinstance(x, dict | list)]
        if settings > MOST:
            raise WideneckError(f"{path} has more than {MOST:,} settings; a recipe has some dozen.")
        if not level:
            return
    raise _too_deep(path)


def _too_deep(path: Path) -> WideneckError:
    return WideneckError(f"{path} is nested deeper than {DEEPEST} levels; a recipe has three.")


def recipe(content: dict[str, Any]) -> Recipe:
    """The recipe of a dictionary, as TOML gives it, or as `Recipe.to_dict` does."""
    known = [*TABLES, "seed", "initial"]
    for key in content:
        check_option(key, known, "a recipe")
    if "model" not in content:
        raise WideneckError('A recipe needs a [model] table, such as name = "awd_lstm".')
    made = Recipe(**{k: TABLES[k](v) if k in TABLES else v for k, v in content.items()})
    try:  # it is kept as JSON
        json.dumps(made.to_dict(), allow_nan=False)
    except (TypeError, ValueError):
        raise WideneckError(
            "A recipe holds text, true or false and finite numbers, no date, nan or inf."
        ) from None
    return made


def _single(given: Any, kind: type, owner: str) -> Any:
    """The one kind of config that a table can be."""
    if not isinstance(given, dict):
        raise WideneckError(f"{owner} is a table of settings, got {shown(given)}.")
    for key in given:
        check_option(key, [field.name for field in fields(kind)], owner)
    return kind(**given)


def _to_blame(
    content: dict[str, Any], make: Callable[[dict[str, Any]], Any], message: str
) -> list[str]:
    """The path of the key without which all is well, or without which the mistake is another."""
    # Tables first: whether the options of a model are good depends on its architecture.
    order = sorted(content, key=lambda key: (key in NEEDED, not isinstance(content[key], dict)))
    for enough in (lambda found: found is None, lambda found: found != message):
        for key in order:
            if not enough(_mistake({k: v for k, v in content.items() if k != key}, make)):
                continue
            value = content[key]
            if not isinstance(value, dict):
                return [key]

            def within(inner: dict[str, Any], key: str = key) -> Any:
                return make({**content, key: inner})

            return [key, *_to_blame(value, within, message)]
    return []


def _mistake(content: dict[str, Any], make: Callable[[dict[str, Any]], Any]) -> str | None:
    try:
        make(content)
    except Exception as error:  # with one key less there may be another mistake, of any kind
        return str(error)
    return None


def _line_of(source: str, path: list[str]) -> int | None:
    """Where a key stands, or else the table around it, counted from 1; None if neither is seen."""
    table: list[str] = []
    longest, best = 0, None
    for number, line in enumerate(source.split("\n"), 1):
        header, setting = HEADER.match(line), SETTING.match(line)
        if header:
            keys = table = _parts(header[1])
        elif setting:
            keys = table + _parts(setting[1])
        else:
            continue
        shared = min(len(keys), len(path))
        if shared > longest and keys[:shared] == path[:shared]:
            longest, best = shared, number
    return best


def _parts(dotted: str) -> list[str]:
    return [key.strip("\"'") for key in re.findall(KEY, dotted)]
