"""Files that are whole or not there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason
from wideneck.files.place import file_at, opened_stream, temporary_beside
from wideneck.files.printable import escaped


def write_text(path: str | Path, content: str) -> None:
    """Replace a file, or write into what is no file: a device, a pipe, /dev/stdout.

    Raises:
        WideneckError: the folder is missing, the disk is full, or writing is not allowed; the file
            that stood at `path` before is still there.
    """
    path, data = Path(path), content.encode()
    try:
        stream = opened_stream(path)
        if stream is not None:
            with stream:
                stream.write(data)
            return
    except OSError as error:
        raise _not_written(path, error) from error
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A new file's temporary name; the file takes the place of `path` when the block is through.

    It is forced to the disk first, and its folder afterwards, so a machine that stops at any
    moment finds the old file or the new one.  Where `path` is a link, what it leads to is replaced.
    Permissions and owner are those of the file that was there.

    Raises:
        WideneckError: an OSError came up inside or on the way; nothing is left of the temporary
            file, and what stood at `path` before is still there.
    """
    path = Path(path)
    temporary = None
    try:
        target = file_at(path)
        handle, temporary = temporary_beside(target)
        os.close(handle)
        yield Path(temporary)
        _force(temporary)
        _take_permissions(temporary, target)
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def json_text(content: dict[str, Any]) -> str:
    """Readable JSON.  A NaN is not JSON, and an audit that holds one is wrong: it raises.

    Characters that do not print are escapes of JSON, so a terminal may show the file; the halves of
    surrogates that stand for the bytes of a name that is no UTF-8 are text, as JSON's other readers
    refuse them.
    """
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    unprintable = {c for c in set(text) if not c.isprintable() and c != "\n"}
    return text.translate({ord(c): _in_json(c) for c in unprintable}) if unprintable else text


def remove(path: Path) -> None:
    """Remove a file if it is there.

    Raises:
        WideneckError: it cannot be removed, or a folder bears its name.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WideneckError(
            f"{path} is in the way and cannot be removed: {reason(error)}; remove it."
        ) from None


def sync_folder(path: Path) -> None:
    """Force the names in a folder to the disk: a file renamed there keeps its name in a power cut.

    Does nothing on systems and file systems that know no such thing.
    """
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _in_json(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        return "\\" + escaped(character)
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _not_written(path: Path, error: OSError) -> WideneckError:
    return WideneckError(f"{path} could not be written: {error.strerror or error}.")


def _force(path: str) -> None:
    with open(path, "rb+") as file:  # Windows forces to the disk what it may write
        os.fsync(file.fileno())


def _take_permissions(temporary: str, target: Path) -> None:
    try:
        before = os.stat(target)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # a temporary file is private, a new one is not
        return
    if hasattr(os, "chown"):
        try:
            os.chown(temporary, before.st_uid, before.st_gid)
        except PermissionError:  # only root gives files away
            pass
    os.chmod(temporary, before.st_mode & 0o777)
