"""A small analogy file with what the real one has: repeats, shared words, pronouns, other sections.

Not one of its words is in a template; `read` gives its questions.
"""

from itertools import permutations
from pathlib import Path

from wideneck.lab.ambiguous.words import Analogies, read_analogies

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


STATES = (12, 10, 10, 6, 4, 3, 3, 2, 2, *[1] * 16)
"""Cities of each state: 68, of which 185 questions would ask for one state twice."""


def of_the_real_shape() -> list[str]:
    """Lines with the sizes and ties of Google's file, and other words.

    Two sections ask every pair after every other one; two ask each pair with the 39 that follow it,
    around the circle.  Capitals of one section are in another, two cities have one name, and one
    state has that of a country.
    """
    family = [(f"he-{i}", f"she-{i}") for i in range(21)]
    family[9:9] = [("he", "she"), ("his", "her")]
    world = [(f"capital-{i}", f"country-{i}") for i in range(116)]
    cities = [f"state-{state}" for state, size in enumerate(STATES) for _ in range(size)]
    cities = [(f"city-{min(i, 66)}", state) for i, state in enumerate(cities)]
    cities[-1] = (cities[-1][0], "country-7")

    def circle(pairs):
        n = len(pairs)
        both = [(pairs[i], pairs[(i + k) % n]) for i in range(n) for k in range(1, 40)]
        return [(p, q) for p, q in both if p[1] != q[1]]

    sections = {
        "family": permutations(family, 2),
        "capital-common-countries": permutations(world[:115:5], 2),
        "capital-world": circle(world),
        "city-in-state": circle(cities),
    }
    found = []
    for name, questions in sections.items():
        found.append(f": {name}")
        found += [f"{a} {b} {c} {d}" for (a, b), (c, d) in questions]
    return found
