"""Names of a package that are loaded on first use, so that what needs no torch imports none."""

import dis
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
    """Each name that a package imports under `if TYPE_CHECKING:`, and the module that has it.

    Read from its compiled code, which a package without source files has as well.
    """
    spec: Any = sys.modules[package].__spec__
    steps = list(dis.get_instructions(spec.loader.get_code(package)))
    asked = [(step.opname, step.argval) for step in steps].index(("LOAD_NAME", "TYPE_CHECKING"))
    end = next(step.argval for step in steps[asked:] if "JUMP" in step.opname)
    homes, home = {}, ""
    for step in steps[asked:]:
        if step.opname == "IMPORT_NAME":
            home = step.argval
        elif step.opname == "IMPORT_FROM" and step.offset < end:
            homes[step.argval] = home
    return homes
