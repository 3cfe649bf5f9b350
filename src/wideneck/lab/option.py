"""An option of the command line that one paper brings.  Imports no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Option:
    """What `wideneck reproduce` takes for one paper alone; it finds it in `Request.own`."""

    name: str
    metavar: str
    help: str
    kind: type[Path] | type[str] = str
