"""Files that are whole or not there."""

import json
import os
import tempfile
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
        # A temporary file is private; what replaces a report should be as readable as one.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise WideneckError(f"{path} could not be written: {error.strerror}.") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """As `write_text`.  A NaN is not JSON, and an audit that holds one is wrong: it raises."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
