"""Mutants that compute what the code computes, or what nobody is promised (equivalent.toml)."""

import tomllib
from pathlib import Path

from bench.mutants.mutant import Mutant

Known = dict[tuple[str, str, str], str]
"""Module, the line as it is and as it becomes: the reason.

A line is known by its words, wherever it stands in its module.
"""


def equivalent() -> Known:
    """Every mutant that is listed, and why no test can or should tell."""
    rows = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())["mutant"]
    return {(row["module"], row["was"], row["becomes"]): row["reason"] for row in rows}


def reason(mutant: Mutant, known: Known) -> str | None:
    """Why this one is equivalent; None if it is not listed."""
    return known.get((mutant.module, mutant.was, mutant.becomes))
