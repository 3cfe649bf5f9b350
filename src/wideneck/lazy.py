"""Names of a package that are loaded on first use, so that what needs no torch imports none."""

import ast
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def on_first_use(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` (PEP 562) of a package; see `homes_in`."""
    homes = homes_in(package)

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, listed


def homes_in(package: str) -> dict[str, str]:
    """Each name that a package imports under `if TYPE_CHECKING:`, and the module that has it."""
    source = ast.parse(inspect.getsource(sys.modules[package]))
    return {
        alias.name: found.module
        for block in source.body
        if isinstance(block, ast.If)
        for found in block.body
        if isinstance(found, ast.ImportFrom) and found.module is not None
        for alias in found.names
    }
