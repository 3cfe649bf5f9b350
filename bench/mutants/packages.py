"""Which modules a package has (packages.toml), and which test files are asked about each.

A test file is asked about what it imports, through other modules too.  First come those that name
the module itself and not what uses it, then those that are called like it, then those that import
little: they are likely to tell, and quick.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.mutants.imports import ROOT, TESTS, distances, imports

SOURCE = Path("src/wideneck")
ASKED = 10
"""Test files about one module, at most."""


@dataclass(frozen=True)
class Package:
    """One table of packages.toml."""

    where: Sequence[str]
    """Patterns of its modules, from src/wideneck on."""
    tests: Sequence[str]
    """Patterns of the test files that may be asked, from tests on."""
    by_name: dict[str, Sequence[str]] = field(default_factory=dict)
    """Test file -> modules that it reaches by no import that stands there."""

    def modules(self) -> list[str]:
        """From src/wideneck on; an `__init__.py` only passes names on."""
        source = ROOT / SOURCE
        found = {path for pattern in self.where for path in source.glob(pattern)}
        return sorted(str(p.relative_to(source)) for p in found if p.name != "__init__.py")

    def test_files(self) -> set[Path]:
        return {path for pattern in self.tests for path in TESTS.glob(pattern)}

    def asked(self, module: str) -> list[str]:
        """The test files that are asked about a module: the likeliest to tell first."""
        path = ROOT / SOURCE / module

        def steps(test: Path) -> int | None:
            named = self.by_name.get(str(test.relative_to(TESTS)), ())
            return distances(test, frozenset(ROOT / SOURCE / name for name in named)).get(path)

        def order(test: Path) -> tuple:
            about = test.stem.removeprefix("test_")
            return steps(test), about != path.stem, path.stem not in about, len(imports(test)), test

        told = sorted((test for test in self.test_files() if steps(test)), key=order)
        return [str(test.relative_to(ROOT)) for test in told[:ASKED]]


def packages() -> dict[str, Package]:
    """Every package by its name."""
    tables = tomllib.loads((Path(__file__).parent / "packages.toml").read_text())
    return {name: Package(**table) for name, table in tables.items()}
