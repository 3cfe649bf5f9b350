"""A small analogy file with what the real one has: repeats, shared words, pronouns, other sections.

Not one of its words is in a template; `read` gives its questions.
"""

from itertools import permutations
from pathlib import Path

from wideneck.memory.ambiguous import Analogies, read_analogies

PAIRS = {
    "family": [("king", "queen"), ("he", "she"), ("uncle", "aunt"), ("groom", "bride")],
    "capital-common-countries": [("Paris", "France"), ("Rome", "Italy"), ("Oslo", "Norway")],
    "capital-world": [
        ("Paris", "France"),
        ("Rome", "Italy"),
        ("Oslo", "Norway"),
        ("Tbilisi", "Georgia"),
        ("Lima", "Peru"),
        ("Quito", "Ecuador"),
    ],
    "city-in-state": [
        ("Atlanta", "Georgia"),
        ("Tampa", "Florida"),
        ("Miami", "Florida"),
        ("Reno", "Nevada"),
        ("Glendale", "Arizona"),
        ("Glendale", "California"),
        ("Omaha", "Nebraska"),
    ],
    "currency": [("Peru", "sol"), ("Norway", "krone")],
}


def lines() -> list[str]:
    """The file; sections in another order than the task's."""
    found = []
    for name in reversed(PAIRS):
        found.append(f": {name}")
        found += [f"{a} {b} {c} {d}" for (a, b), (c, d) in permutations(PAIRS[name], 2)]
    return found


def read(folder: Path) -> Analogies:
    path = folder / "questions-words.txt"
    path.write_text("\n".join(lines()) + "\n")
    return read_analogies(path)
