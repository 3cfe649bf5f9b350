"""Files that are whole or not there."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from wideneck.errors import WideneckError


def write_text(path: str | Path, content: str) -> None:
    """Write to a temporary file beside `path`, then rename.

    Raises:
        WideneckError: the folder is missing, the disk is full, or writing is not allowed; what
            stood at `path` before is still there.
    """
    path = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        make_readable(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise WideneckError(f"{path} could not be written: {error.strerror}.") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def json_text(content: dict[str, Any]) -> str:
    """Readable JSON.  A NaN is not JSON, and an audit that holds one is wrong: it raises."""
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def check_writable(path: str | Path) -> None:
    """Refuse a place that cannot be written before an hour's work is done for it.

    Raises:
        WideneckError: the folder is missing or closed, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise WideneckError(f"{path} is a folder; give the name of a file to write.")
    if not path.parent.is_dir():
        raise WideneckError(f"{path} cannot be written: there is no folder {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise WideneckError(f"{path} cannot be written: no permission in {path.parent}.")


def make_readable(path: str | Path) -> None:
    """Give a temporary file or folder, which is private, the permissions that a new one has."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, (0o777 if os.path.isdir(path) else 0o666) & ~mask)


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
