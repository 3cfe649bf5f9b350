"""How much more memory a process holds at its peak while something runs."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path


def growth(run: Callable[[], object]) -> int:
    """Bytes of the peak (VmHWM, which Linux forgets on request) above what was held before.

    Less pages of files, that is of code, which come and go as the system likes.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = held()
    run()
    return _status("VmHWM") - _status("RssFile") - before


def held() -> int:
    """Bytes that the process holds now, of its own."""
    return _status("RssAnon")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}: this benchmark needs Linux.")
