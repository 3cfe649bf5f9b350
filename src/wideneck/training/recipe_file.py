"""TOML to a recipe, with the file and the line of whatever is wrong.

TOML, not YAML, which reads 1e-3 as a string.  tomllib does not tell where a key stands, so the
line is looked for in the text; where a table is written in an unusual way, it is that of its head.
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wideneck import config as heads
from wideneck.data.config import Data
from wideneck.errors import WideneckError
from wideneck.models.small.config import model_config
from wideneck.registry import check_option, configure
from wideneck.training.optimizers import optimizer_config
from wideneck.training.recipe import Recipe
from wideneck.training.schedule import Schedule

TABLES: dict[str, Callable[[Any], Any]] = {
    "data": lambda given: _single(given, Data(), "the [data] table"),
    "model": model_config,
    "head": heads.head_config,
    "optimizer": optimizer_config,
    "training": lambda given: _single(given, Schedule(), "the [training] table"),
}
"""What makes the config of each table."""


def read_recipe(path: str | Path, **options: Any) -> Recipe:
    """The recipe in a file.

    Args:
        path: a TOML file.
        options: replace what stands there: `seed`, or `text` of its [data].

    Raises:
        WideneckError: the file is missing, is no TOML, or has an unknown key, a value of the
            wrong type or out of range; the message names the file and the line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise WideneckError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise WideneckError(f"The recipe {path} is not UTF-8 text.") from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WideneckError(f"{path} is not TOML: {error}.") from None
    if options.get("text") is not None:
        content["data"] = {**_table(content.get("data", {})), "text": str(options["text"])}
    if options.get("seed") is not None:
        content["seed"] = options["seed"]
    try:
        return recipe(content)
    except WideneckError as error:
        raise WideneckError(
            f"{path}, line {_line_of(text, content, str(error))}: {error}"
        ) from None


def recipe(content: dict[str, Any]) -> Recipe:
    """The recipe of a dictionary, as TOML gives it.

    Raises:
        WideneckError: an unknown key, a value of the wrong type or out of range, no model.
    """
    known = [*TABLES, "seed", "initial"]
    for key in content:
        check_option(key, known, "a recipe")
    if "model" not in content:
        raise WideneckError('A recipe needs a [model] table, such as name = "awd_lstm".')
    initial = content.get("initial")
    if initial is not None and not isinstance(initial, str):
        raise WideneckError(f"a recipe needs the folder of a run for initial, got {initial!r}.")
    rest = {key: content[key] for key in ("seed", "initial") if key in content}
    made = {key: make(content[key]) for key, make in TABLES.items() if key in content}
    return Recipe(**made, **rest)


def _single(given: Any, default: Any, owner: str) -> Any:
    """The one kind of config that a table can be."""
    return configure(
        {**_table(given), "name": owner}, {}, {owner: default}, "table", name_of=lambda _: owner
    )


def _table(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise WideneckError(f"A table of settings was expected, got {given!r}.")
    return given


def _line_of(text: str, content: dict[str, Any], message: str) -> int:
    """The line of the key that is to blame: the one that alone gives the same message."""
    for name, value in content.items():
        if name not in TABLES or not isinstance(value, dict):
            if _fails_alike(lambda n=name, v=value: recipe({"model": "awd_lstm", n: v}), message):
                return _line(text, [name])
            continue
        for key, inner in value.items():
            part = (
                {key: inner}
                if key == "name" or "name" not in value
                else {
                    "name": value["name"],
                    key: inner,
                }
            )
            if _fails_alike(lambda n=name, p=part: TABLES[n](p), message):
                return _line(text, [name, key])
        if _fails_alike(lambda n=name, v=value: TABLES[n](v), message):
            return _line(text, [name])
    return 1


def _fails_alike(make: Callable[[], Any], message: str) -> bool:
    try:
        make()
    except WideneckError as error:
        return str(error) == message
    return False


def _line(text: str, path: list[str]) -> int:
    """Where `key = ` stands below `[table]`, or the table's own line, or 1; counted from 1."""
    table, best = "", 1
    *outer, key = path
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[\[?\s*([\w.\-\"']+)\s*\]", line)
        if head:
            table = head[1].strip("\"'")
            if table == ".".join(path):
                return number
            if outer and table == outer[0]:
                best = number
        name = re.match(r"\s*([\w.\-\"']+)\s*=", line)
        if not name:
            continue
        full = f"{table}.{name[1]}" if table else name[1]
        full = full.replace('"', "").replace("'", "")
        if full == ".".join(path):
            return number
        if outer and full == outer[0]:  # an inline table
            best = number
    return best
