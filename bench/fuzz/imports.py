"""What a child has imported, its parent imports once, so that the children after it need not."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path


def listing(work: Callable[[], object], path: Path, beside: Path | None = None) -> Callable:
    """The work, which then tells what it has imported from outside the folder `beside`."""

    def listing() -> None:
        try:
            work()
        finally:
            path.write_text("\n".join(name for name in list(sys.modules) if outside(name)))

    def outside(name: str) -> bool:
        if beside is None:
            return True
        file = getattr(sys.modules[name], "__file__", None)
        return file is not None and not Path(file).is_relative_to(beside)

    return listing


def import_listed(path: Path) -> None:
    """Import what a child has imported."""
    for name in path.read_text().split("\n"):
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:
                continue  # made by another module, under a name of its own
