"""The rows of clients.toml, and a layer of packages for each pin."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = ROOT / ".clients"


@dataclass(frozen=True)
class Row:
    """What clients.toml says of one client and version."""

    tests: tuple[str, ...]
    pins: tuple[str, ...] = ()
    client: str = ""
    what: str = ""

    @property
    def name(self) -> str:
        return self.client or self.pins[0].partition("==")[0]

    @property
    def version(self) -> str:
        own = dict(pin.split("==") for pin in self.pins)
        return own[self.name] if self.name in own else version(self.name)


def rows(clients: Iterable[str] = ()) -> list[Row]:
    """All, or those of the clients named; SystemExit if there is no such client."""
    listed = tomllib.loads((Path(__file__).parent / "clients.toml").read_text()).get("row", [])
    made = [Row(**{k: v if isinstance(v, str) else tuple(v) for k, v in r.items()}) for r in listed]
    if unknown := set(clients) - {row.name for row in made}:
        sys.exit(f"no client {', '.join(sorted(unknown))} in clients.toml")
    return [row for row in made if not clients or row.name in clients]


def layer(pin: str) -> Path:
    """The folder with the package of `pin` alone, installed if it is not there.

    The stamp is written last, so that an interrupted installation starts over.
    """
    folder = LAYERS / pin.replace("==", "-")
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--target", str(folder), pin], check=True)
        (folder / "installed").touch()
    return folder
