"""The process that plants one mutant after another, and says which of them no test tells."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from bench.mutants.draw import drawn
from bench.mutants.mutant import Mutant, equivalent
from bench.mutants.packages import packages
from bench.mutants.trial import Outcome, Trials
from bench.table import markdown

KILLED, TIMEOUT, EQUIVALENT, SURVIVED = "killed", "timeout", "equivalent", "survived"
SORTS = (KILLED, EQUIVALENT, SURVIVED, TIMEOUT)


def main() -> None:
    asked = _arguments()
    package = packages()[asked.package]
    modules = asked.module or package.modules()
    found = list(islice(drawn(modules, asked.seed), asked.count))
    chosen = list(enumerate(found))
    if asked.mutant is not None:
        chosen = chosen[asked.mutant :]
    trials = Trials(Path().resolve(), asked.place)
    known, ends = equivalent(), []
    for number, mutant in chosen:
        where = f"{number} {mutant.module}:{mutant.line}"
        why = known.get((mutant.was, mutant.becomes))
        if why is not None and asked.mutant is None:  # it would cost all tests of its module
            ends.append((mutant, EQUIVALENT))
            print(f"{where} {EQUIVALENT}: {why}", flush=True)
            continue
        outcome = trials.of(mutant, package.asked(mutant.module))
        end = judged(outcome)
        ends.append((mutant, end))
        print(f"{where} {end}, {outcome.cpu:.1f} s of CPU", flush=True)
        if asked.mutant is not None:
            print(f"{mutant.diff()}\n{outcome.said}")
        elif end == SURVIVED:
            print(f"{mutant.diff()}\n{_again(asked, number)}\n", flush=True)
    print(f"\n{table(ends)}\n{asked.package}, seed {asked.seed}")
    sys.exit(int(any(end == SURVIVED for _, end in ends)))


def judged(outcome: Outcome) -> str:
    """What became of a mutant that was planted."""
    if outcome.timeout:
        return TIMEOUT
    return SURVIVED if outcome.code == 0 else KILLED


def table(ends: Sequence[tuple[Mutant, str]]) -> str:
    """The counts by module."""
    counts = Counter((mutant.module, end) for mutant, end in ends)
    modules = sorted({module for module, _ in counts})
    rows = {module: [counts[module, sort] for sort in SORTS] for module in modules}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    cells = [[name, str(sum(found)), *map(str, found)] for name, found in rows.items()]
    return markdown(["module", "planted", *SORTS[:3], "timeouts"], cells)


def _again(asked: argparse.Namespace, number: int) -> str:
    modules = "".join(f" --module {module}" for module in asked.module)
    command = f"python -m bench mutants {asked.package}{modules} --seed {asked.seed}"
    return f"{command} --mutant {number}"


def _arguments() -> argparse.Namespace:
    known = packages()
    parser = argparse.ArgumentParser(prog="python -m bench mutants")
    parser.add_argument("place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("package", choices=list(known))
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", action="append", default=[], help="only those of this one")
    parser.add_argument("--mutant", type=int, help="one of them again: its number")
    asked = parser.parse_args()
    if unknown := set(asked.module) - set(known[asked.package].modules()):
        parser.error(f"{asked.package} has no module {', '.join(sorted(unknown))}")
    if asked.mutant is not None:
        asked.count = asked.mutant + 1
    return asked


if __name__ == "__main__":
    main()
