"""Docstrings as summaries: the first line of a docstring tells in short what the rest says.

Read from Python's own library and from packages that wideneck needs anyway, so the task is there
on every machine that has wideneck.  Files are parsed, never imported.
"""

import ast
import importlib.metadata
import random
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path

from wideneck.errors import WideneckError
from wideneck.lab.tasks.pairs import Pair, Pairs

PACKAGES = (
    "torch",
    "transformers",
    "scipy",
    "numpy",
    "huggingface_hub",
    "accelerate",
    "rich",
)
STANDARD = "Python"
"""Name of the standard library among the sources."""
SUMMARY = (4, 25)
BODY = (15, 200)
"""Fewest and most words."""
HELD_OUT = 0.1
"""Share of the modules for validation, and for the test."""
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Source:
    """One package and where its files are."""

    name: str
    version: str
    folder: Path


def docstring_pairs(seed: int = 0) -> Pairs:
    """Pairs of a docstring's body and its first line, split by module.

    A body or a summary that stands in several modules (a docstring that is inherited by copying)
    is taken once, in the first module that has it, so that nothing of a test module is in
    training.

    Args:
        seed: of the split.

    Raises:
        WideneckError: none of the sources is installed as files.

    Cost: some 30 s of one core for 10,000 pairs.
    """
    by_module: dict[str, list[Pair]] = {}
    known: set[str] = set()
    counts: dict[str, int] = {}
    for source in sources():
        before = len(known)
        for module, pair in _read(source):
            body = _plain(pair.source)
            if body not in known:
                known.add(body)
                by_module.setdefault(module, []).append(replace(pair, origin=module))
        counts[f"{source.name} {source.version}"] = len(known) - before
    if not known:
        raise WideneckError(
            "No docstrings were found: neither Python's library nor any package that wideneck "
            "needs is installed as source files."
        )
    return _split(by_module, counts, seed)


def sources() -> list[Source]:
    """The standard library, and those of `PACKAGES` that are installed."""
    version = ".".join(map(str, sys.version_info[:3]))
    found = [
        Source(name=STANDARD, version=version, folder=Path(sysconfig.get_path("stdlib"))),
    ]
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folder = Path(next(iter(spec.submodule_search_locations)))
            found.append(Source(name=name, version=importlib.metadata.version(name), folder=folder))
    return found


def _read(source: Source) -> Iterator[tuple[str, Pair]]:
    """Module and pair, in the order of the names of the files."""
    for file in sorted(source.folder.rglob("*.py")):
        inside = file.relative_to(source.folder)
        # Packages beside the standard library are no part of it, and tests document little.
        if {"site-packages", "dist-packages", "test", "tests", "idlelib"} & set(inside.parts):
            continue
        module = ".".join((source.name, *inside.with_suffix("").parts))
        for pair in pairs_of(file.read_bytes()):
            yield module, pair


def pairs_of(code: bytes) -> Iterator[Pair]:
    """The pairs of one file; none of one that is not Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes in strings
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            pair = _pair(ast.get_docstring(node, clean=False) or "")
            if pair is not None:
                yield pair


def _pair(docstring: str) -> Pair | None:
    """First paragraph, which must be one line, and the rest."""
    first, _, rest = cleandoc(docstring).partition("\n")
    summary, body = " ".join(first.split()), " ".join(rest.split())
    line_after = rest.partition("\n")[0]
    if line_after.strip():  # the sentence goes on: its first line is no summary
        return None
    if not _holds(summary, SUMMARY) or not _holds(body, BODY) or ">>>" in summary:
        return None
    return Pair(source=body, target=summary)


def _holds(text: str, limits: tuple[int, int]) -> bool:
    return limits[0] <= len(text.split()) <= limits[1]


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


def _split(by_module: dict[str, list[Pair]], counts: dict[str, int], seed: int) -> Pairs:
    modules = sorted(by_module)
    random.Random(seed).shuffle(modules)
    held_out = max(1, round(HELD_OUT * len(modules)))
    test, valid = modules[:held_out], modules[held_out : 2 * held_out]
    train = modules[2 * held_out :]
    # Two bodies may differ and share a summary; training sees none that is asked for later.
    asked = {_plain(pair.target) for module in (*test, *valid) for pair in by_module[module]}

    def of(some: Iterable[str], without: Set[str] = frozenset()) -> list[Pair]:
        return [p for m in some for p in by_module[m] if _plain(p.target) not in without]

    splits = {"train": of(train, asked), "valid": of(valid), "test": of(test)}
    return Pairs(name="docstrings", counts=counts, **splits)
