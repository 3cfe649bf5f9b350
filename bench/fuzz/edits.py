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


def at(name: str, how: Callable[[Path], object]) -> Change:
    """What is done with the path of a file, or of the first that a pattern finds."""
    return lambda folder, draw: how(sorted(folder.glob(name))[0] if "*" in name else folder / name)


def all_of(*changes: Change) -> Change:
    """One after another."""
    return lambda folder, draw: [change(folder, draw) for change in changes]


def instead(name: str, how: Callable[[Path], object]) -> Change:
    """Something else in the place of the file."""
    return at(name, lambda path: (path.unlink(missing_ok=True), how(path)))


def content(name: str, new: bytes) -> Change:
    """The file holds these bytes."""
    return instead(name, lambda path: path.write_bytes(new))


def linked(name: str, to: str) -> Change:
    return instead(name, lambda path: path.symlink_to(to))


def edited(name: str, how: Callable[[bytes], bytes]) -> Change:
    """The file's bytes, through a function."""
    return edited_by(name, lambda old, draw: how(old))


def edited_by(name: str, how: Callable[[bytes, Random], bytes]) -> Change:
    """The file's bytes, through a function that draws."""

    def change(folder: Path, draw: Random) -> None:
        def edit(path: Path) -> None:
            if not path.is_file():  # an earlier change has put a pipe or a device there
                raise OSError(f"{path} is no file any more")
            new = how(path.read_bytes(), draw)
            path.unlink()
            path.write_bytes(new)

        at(name, edit)(folder, draw)

    return change


def changed_json(name: str, how: Callable[[Any], Any]) -> Change:
    """The object that the file holds, through a function that edits it or gives another."""
    return edited(name, lambda old: through(old, how))


def through(old: bytes, how: Callable[[Any], Any]) -> bytes:
    value = json.loads(old)
    new = how(value)
    return json.dumps(value if new is None else new).encode()


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

    fill = edited(name, lambda old: old.replace(f'"{HOLE}"'.encode(), text.encode(), 1))
    return all_of(changed_json(name, put), fill)


def values(
    name: str, table: str, put: Callable[[str, str, str], Change] = literal
) -> list[Mutation]:
    """A mutation for each value in a table of text.

    Args:
        name: the file.
        table: columns with two spaces or more between them: the keys, the commands (separated by
            commas), what must come, and the texts of values.  A line that begins with spaces goes
            on with the values of the line above.
        put: called as put(name, keys, text).
    """
    rows = re.sub(r"\n +", "  ", table.strip()).split("\n")
    return [
        Mutation(f"{keys}={short(text)}", put(name, keys, text), expects, tuple(under.split(",")))
        for keys, under, expects, *texts in (re.split("  +", row) for row in rows)
        for text in texts
    ]


def without(name: str, keys: str) -> Change:
    """A key taken out."""

    def take(value: Any) -> None:
        *before, last = keys.split(".")
        for key in before:
            value = value[key]
        del value[last]

    return changed_json(name, take)


def of_any_file(
    name: str, command: str, junk: str = REFUSED, node: str = REFUSED, gone: str = REFUSED
) -> list[Mutation]:
    """What can happen to a file, whatever its format, and what must come of it.

    Args:
        name: the file.
        command: by which it is read.
        junk: expected where it holds next to nothing.
        node: expected where it is a folder, a pipe or a device.
        gone: expected where there is none.
    """
    changes = {
        "empty": (content(name, b""), junk),
        "one-byte": (content(name, b"{"), junk),
        "nul": (content(name, b"\0" * 64), junk),
        "folder": (instead(name, Path.mkdir), node),
        "fifo": (instead(name, os.mkfifo), node),
        "link-to-zero": (linked(name, "/dev/zero"), node),
        "dangling": (linked(name, "nowhere"), gone),
        "loop": (instead(name, lambda path: path.symlink_to(path.name)), gone),
        "missing": (instead(name, lambda path: None), gone),
    }
    return _named_after(name, command, changes)


def of_any_json(name: str, command: str, expects: str = REFUSED) -> list[Mutation]:
    """What can happen to a JSON file."""
    changes = {
        "list": (content(name, b"[]"), expects),
        "null": (content(name, b"null"), expects),
        "text": (content(name, b'"x"'), expects),
        "empty-object": (content(name, b"{}"), EITHER),
        "deep": (content(name, b'{"a":' * 100_000), expects),
        "deep-list": (content(name, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), expects),
        "digits": (content(name, b'{"a":' + b"9" * 6000 + b"}"), expects),
        "utf-16": (edited(name, lambda old: old.decode().encode("utf-16")), expects),
        "latin-1": (edited(name, lambda old: old.replace(b"{", b'{"\xe9":"\xff",', 1)), expects),
        "cut": (edited(name, lambda old: old[: len(old) // 2]), expects),
        "more": (edited(name, lambda old: old + b"}"), expects),
        "infinite": (edited(name, lambda old: old.replace(b"{", b'{"x":1e999,', 1)), EITHER),
    }
    return _named_after(name, command, changes)


def _named_after(name: str, command: str, changes: dict[str, tuple[Change, str]]) -> list[Mutation]:
    file = Path(name).name
    return [
        Mutation(f"{file}-{how}", change, expects, (command,))
        for how, (change, expects) in changes.items()
    ]


def bom(name: str, command: str, expects: str = EITHER) -> Mutation:
    """A byte order mark, which is no part of a text."""
    change = edited(name, lambda old: b"\xef\xbb\xbf" + old)
    return Mutation(f"{Path(name).name}-bom", change, expects, (command,))


def short(text: str) -> str:
    """The text made fit for the name of a case: it stands in a shell without quotes."""
    plain = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip("_")[:28]
    return plain if plain == text else f"{plain}.{zlib.crc32(text.encode()) % 1000}"
