"""Changes to files of any format, and to JSON by its keys."""

import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import EITHER, REFUSED, Change, Mutation

HOLE = "@@hole@@"


def content(name: str, new: bytes) -> Change:
    """The file holds these bytes."""
    return lambda folder, draw: _write(_path(folder, name), new)


def edited(name: str, how: Callable[[bytes, Random], bytes]) -> Change:
    """The file's bytes, through a function."""

    def change(folder: Path, draw: Random) -> None:
        path = _path(folder, name)
        _write(path, how(_read(path), draw))

    return change


def changed_json(name: str, how: Callable[[Any], Any]) -> Change:
    """The object that the file holds, through a function that edits it or gives another."""

    def change(folder: Path, draw: Random) -> None:
        path = _path(folder, name)
        value = json.loads(_read(path))
        new = how(value)
        path.write_text(json.dumps(value if new is None else new))

    return change


def literal(name: str, keys: str, text: str) -> Change:
    """A value replaced by this text, which need not be JSON.

    Args:
        name: the file.
        keys: such as "model.vocab" or "added_tokens.0.id"; made where they are missing.
        text: what stands there then.
    """

    def put(value: Any) -> None:
        *before, last = keys.split(".")
        for key in before:
            value = value[int(key)] if isinstance(value, list) else value.setdefault(key, {})
        value[int(last) if isinstance(value, list) else last] = HOLE

    fill = edited(name, lambda old, draw: old.replace(b'"@@hole@@"', text.encode(), 1))
    return all_of(changed_json(name, put), fill)


def without(name: str, keys: str) -> Change:
    """A key taken out."""

    def take(value: Any) -> None:
        *before, last = keys.split(".")
        for key in before:
            value = value[key]
        del value[last]

    return changed_json(name, take)


def all_of(*changes: Change) -> Change:
    """One after another."""

    def change(folder: Path, draw: Random) -> None:
        for one in changes:
            one(folder, draw)

    return change


def rows(
    name: str, keys: str, values: dict[str, str] | list[str], *commands: str
) -> list[Mutation]:
    """A mutation for each text of a value; a dictionary tells what must come of it."""
    expected = values if isinstance(values, dict) else dict.fromkeys(values, EITHER)
    return [
        Mutation(f"{keys}={short(text)}", literal(name, keys, text), expects, commands)
        for text, expects in expected.items()
    ]


def of_any_file(
    name: str, *commands: str, junk: str = REFUSED, node: str = REFUSED, gone: str = REFUSED
) -> list[Mutation]:
    """What can happen to a file, whatever its format, and what must come of it.

    Args:
        name: the file.
        commands: by which it is read.
        junk: expected where it holds next to nothing.
        node: expected where it is a folder, a pipe or a device.
        gone: expected where there is none.
    """
    changes: dict[str, Change] = {
        "empty": content(name, b""),
        "one-byte": content(name, b"{"),
        "nul": content(name, b"\0" * 64),
        "folder": lambda folder, draw: (_remove(_path(folder, name)), _path(folder, name).mkdir()),
        "fifo": lambda folder, draw: (_remove(_path(folder, name)), os.mkfifo(_path(folder, name))),
        "link-to-zero": _linked(name, "/dev/zero"),
        "dangling": _linked(name, "nowhere"),
        "loop": lambda folder, draw: _relinked(_path(folder, name), _path(folder, name).name),
        "missing": lambda folder, draw: _remove(_path(folder, name)),
    }
    return [
        Mutation(f"{Path(name).name}-{how}", change, expects, commands)
        for (how, change), expects in zip(
            changes.items(), [junk] * 3 + [node] * 3 + [gone] * 3, strict=True
        )
    ]


def of_any_json(name: str, *commands: str, expects: str = REFUSED) -> list[Mutation]:
    """What can happen to a JSON file."""
    changes: dict[str, Change] = {
        "list": content(name, b"[]"),
        "null": content(name, b"null"),
        "text": content(name, b'"x"'),
        "empty-object": content(name, b"{}"),
        "deep": content(name, b'{"a":' * 100_000),
        "deep-list": content(name, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        "digits": content(name, b'{"a":' + b"9" * 6000 + b"}"),
        "utf-16": edited(name, lambda old, draw: old.decode().encode("utf-16")),
        "latin-1": edited(name, lambda old, draw: old.replace(b"{", b'{"\xe9":"\xff",', 1)),
        "cut": edited(name, lambda old, draw: old[: len(old) // 2]),
        "more": edited(name, lambda old, draw: old + b"}"),
        "infinite": edited(name, lambda old, draw: old.replace(b"{", b'{"x":1e999,', 1)),
    }
    certain = ("list", "null", "text", "deep", "deep-list", "digits", "utf-16", "latin-1", "cut")
    certain += ("more",)
    return [
        Mutation(
            f"{Path(name).name}-{how}", change, expects if how in certain else EITHER, commands
        )
        for how, change in changes.items()
    ]


def bom(name: str, *commands: str, expects: str) -> Mutation:
    """A byte order mark, which is no part of a text."""
    change = edited(name, lambda old, draw: b"\xef\xbb\xbf" + old)
    return Mutation(f"{Path(name).name}-bom", change, expects, commands)


def _linked(name: str, to: str) -> Change:
    return lambda folder, draw: _relinked(_path(folder, name), to)


def _relinked(path: Path, to: str) -> None:
    _remove(path)
    path.symlink_to(to)


def _path(folder: Path, name: str) -> Path:
    """The file, or the first that a pattern finds."""
    if "*" not in name:
        return folder / name
    return sorted(folder.glob(name))[0]


def _read(path: Path) -> bytes:
    """Not from a pipe or a device that an earlier change has put there."""
    if not path.is_file():
        raise OSError(f"{path} is no file any more")
    return path.read_bytes()


def _write(path: Path, new: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(new)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def short(text: str) -> str:
    """The text made fit for the name of a case: it stands in a shell without quotes."""
    plain = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip("_")[:28]
    return plain if plain == text else f"{plain}.{zlib.crc32(text.encode()) % 1000}"
