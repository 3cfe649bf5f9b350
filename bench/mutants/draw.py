"""Mutants of some modules in an order drawn from a seed."""

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from bench.mutants.mutant import Mutant
from bench.mutants.operators import is_a_formula, operators
from bench.mutants.packages import ROOT, SOURCE


def drawn(modules: Iterable[str], seed: int) -> Iterator[Mutant]:
    """Every mutant of the modules, each place and change as likely as another."""
    from cosmic_ray.mutating import mutate_code  # pyrefly: ignore[missing-import]

    known = operators()
    sources = {module: (ROOT / SOURCE / module).read_text() for module in sorted(modules)}
    places = [
        (module, name, number)
        for module, source in sources.items()
        for name, number in _places(source, known)
    ]
    Random(f"wideneck mutants {seed}").shuffle(places)
    for module, name, number in places:
        source = sources[module]
        changed = mutate_code(source, known[name], number)
        if changed is not None and changed != source and _compiles(changed):
            yield Mutant(module, source, changed)


def _places(source: str, known: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Operators, and the numbers in cosmic-ray's count of the places where each one fits."""
    from cosmic_ray.ast import ast_nodes, get_ast  # pyrefly: ignore[missing-import]

    nodes = list(ast_nodes(get_ast(source)))
    for name, operator in known.items():
        places = (node for node in nodes for _ in operator.mutation_positions(node))
        for number, node in enumerate(places):
            if is_a_formula(node):
                yield name, number


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True
