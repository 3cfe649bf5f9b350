"""Which modules a package has, and which tests are asked about each (packages.toml)."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path("src/wideneck")


@dataclass(frozen=True)
class Package:
    """One table of packages.toml."""

    where: tuple[str, ...]
    """Patterns of its modules, from src/wideneck on."""
    tests: dict[str, tuple[str, ...]]
    """Of each module, its test files: the quickest to tell first."""


def packages() -> dict[str, Package]:
    """Every package by its name."""
    tables = tomllib.loads((Path(__file__).parent / "packages.toml").read_text())
    return {
        name: Package(
            tuple(table["where"]),
            {
                module: tuple(group["tests"])
                for group in table["group"]
                for module in group["modules"]
            },
        )
        for name, table in tables.items()
    }


def modules(package: Package, root: Path) -> set[str]:
    """The modules that its patterns find; an `__init__.py` only passes names on."""
    source = root / SOURCE
    return {
        str(path.relative_to(source))
        for pattern in package.where
        for path in source.glob(pattern)
        if path.name != "__init__.py"
    }
