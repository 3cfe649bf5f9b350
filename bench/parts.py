"""A benchmark in parts, each in a process of its own that prints its table.

python -m bench.parts MODULE.FUNCTION ARGUMENTS        both of bench; a list in JSON
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from statistics import median
from typing import Any

from bench.table import markdown


def run_parts(name: str, parts: Mapping[str, str], arguments: list[str]) -> None:
    """`python -m bench NAME [PART ...] [--scale X]`: one part after the other.

    Args:
        name: of the benchmark.
        parts: by the name of the part what `run_child` calls, as "module.function" and words that
            it is given before the scale.
        arguments: of the command.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}")
    told = ", ".join(parts)
    parser.add_argument("parts", nargs="*", metavar="PART", type=one_of(parts), help=told)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the sizes")
    options = parser.parse_args(arguments)
    subprocess.run([sys.executable, "-m", "bench.floor"], check=True)
    for part in options.parts or parts:
        print(f"\n**{part}**: ", end="", flush=True)
        function, *given = parts[part].split()
        run_child(function, *given, options.scale)


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """A type of arguments: choices, which argparse has not for an argument that may be left out."""

    def check(name: str) -> str:
        if name not in names:
            known = ", ".join(names)
            raise argparse.ArgumentTypeError(f"expected one of {known}, got {name!r}")
        return name

    return check


def in_turns(
    runs: Mapping[Any, Callable[[], object]], rounds: Mapping[Any, int], *, warm: bool = True
) -> dict[Any, list[float]]:
    """Seconds of every round, taken in turns so that drift hits all alike; one warm-up each."""
    for run in runs.values() if warm else ():
        run()
    times: dict[Any, list[float]] = {name: [] for name in runs}
    for turn in range(max(rounds.values())):
        for name, run in runs.items():
            if turn < rounds[name]:
                times[name].append(seconds(run))
    return times


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(times: list[float], reference: list[float]) -> float:
    """Median over the rounds that both ran."""
    return median(a / b for a, b in zip(times, reference, strict=False))


def timed(
    times: Mapping[str, list[float]], reference: list[float], digits: int = 3, of: int = 2
) -> list[list[str]]:
    """Rows of a table: name, rounds, shortest and median seconds, and both ratios.

    Args:
        times: seconds of every round, by name.
        reference: those of what the ratios are to.
        digits: of the seconds.
        of: digits of the ratios: the median of the rounds', and of the two shortest times.
    """
    return [
        [
            name,
            str(len(own)),
            f"{min(own):.{digits}f}",
            f"{median(own):.{digits}f}",
            f"{ratio(own, reference):.{of}f}",
            f"{min(own) / min(reference):.{of}f}",
        ]
        for name, own in times.items()
    ]


def verdict(what: str, value: float, limit: float, *, least: bool = False, unit: str = "") -> str:
    """One line: the value, its limit, and whether it holds."""
    good = value >= limit if least else value <= limit
    kind = "at least" if least else "at most"
    return f"{what}: {value:,.2f}{unit}, {kind} {limit:,.2f}{unit}: {'met' if good else 'MISSED'}"


def report(
    title: str, header: Sequence[str], rows: list[list[str]], verdicts: Sequence[str] = ()
) -> None:
    """Print what a part found, behind its name."""
    print(f"{title}\n\n{markdown(header, rows)}\n")
    for line in verdicts:
        print(f"- {line}")


def run_child(function: str, *arguments: Any) -> None:
    """Call "module.function" of bench in a process of its own, which prints where this one does."""
    subprocess.run(_command(function, arguments), check=True)


def from_child(function: str, *arguments: Any) -> Any:
    """What the function returns, through JSON."""
    done = subprocess.run(_command(function, arguments), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def _command(function: str, arguments: tuple[Any, ...]) -> list[str]:
    return [sys.executable, "-m", "bench.parts", function, json.dumps(arguments)]


if __name__ == "__main__":
    module_name, _, function_name = sys.argv[1].rpartition(".")
    module = import_module(f"bench.{module_name}")
    import torch  # which a parent has no need of

    torch.set_num_threads(2)
    found = getattr(module, function_name)(*json.loads(sys.argv[2]))
    if found is not None:
        print(json.dumps(found))
