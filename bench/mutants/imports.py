"""What a file of ours imports, by its words: the modules themselves, and those behind them.

A name that a package only passes on (`wn.load`, or `from wideneck.functional import log_prob`) is
taken from the module that has it.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


@cache
def distances(test: Path, also: frozenset[Path] = frozenset()) -> dict[Path, int]:
    """The modules behind a test file, and by how many imports: its helpers' are its own.

    Args:
        test: the file.
        also: what it imports where no import tells.
    """
    found: dict[Path, int] = {}
    ring, steps = imports(test) | also, 1
    while ring:
        found |= dict.fromkeys(ring, steps)
        ring = frozenset().union(*map(imports, ring)) - found.keys()
        steps += 1
    return found


@cache
def imports(path: Path) -> frozenset[Path]:
    """The modules of wideneck that a file names, or that helpers of the tests name for it."""
    beside = path.parent if path.is_relative_to(TESTS) else TESTS
    homes = (_home(name, beside) for name in _Names(path).used())
    named = {file for file in homes if file is not None and file != path}
    helpers = {file for file in named if file.is_relative_to(TESTS)}
    own = {file for file in named - helpers if file.name != "__init__.py"}
    return frozenset(own.union(*map(imports, helpers)))


@cache
def _home(name: str, beside: Path) -> Path | None:
    """The file that has a dotted name, also in a folder; none for what is not ours."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        stems = (place.joinpath(*parts[:end]) for place in (ROOT / "src", TESTS, beside))
        files = (file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py"))
        path = next((file for file in files if file.is_file()), None)
        if path is not None and path.name == "__init__.py" and end < len(parts):
            passed_on = _Names(path).bound.get(parts[end])
            if passed_on is not None:
                return _home(".".join([passed_on, *parts[end + 1 :]]), beside)
        if path is not None:
            return path
    return None


class _Names(ast.NodeVisitor):
    """The names that a file's imports bind, and the attributes that it takes."""

    def __init__(self, path: Path):
        self.passes_on = path.name == "__init__.py"
        self.bound: dict[str, str] = {}
        self.chains: set[str] = set()
        self.visit(ast.parse(path.read_text()))

    def used(self) -> set[str]:
        """Every dotted name, from its package on."""
        chains = (chain.partition(".") for chain in self.chains)
        taken = {f"{self.bound[head]}.{rest}" for head, _, rest in chains if head in self.bound}
        return taken | {*self.bound.values()}

    def visit_If(self, node: ast.If) -> None:
        """Imports for the types alone do nothing, but tell what a package loads on first use."""
        if self.passes_on or ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.bound |= {alias.asname or alias.name: alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.bound |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.chains.add(ast.unparse(node))
        self.generic_visit(node)
