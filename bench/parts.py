"""A benchmark in parts, each a process of its own that prints one table as JSON."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from bench.table import markdown


def run_parts(name: str, parts: Sequence[str], arguments: list[str]) -> None:
    """`python -m bench NAME [PART ...] [--scale X]`: the modules bench.NAME_PART, one by one."""
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the sizes")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        sys.exit(f"bench {name} has the parts {', '.join(parts)}, not {unknown[0]}")
    subprocess.run([sys.executable, "-m", "bench.machine", "speed"], check=True)
    for part in options.parts or parts:
        command = [sys.executable, "-m", f"bench.{name}_{part}", str(options.scale)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        title, header, rows, verdicts = json.loads(done.stdout)
        print(f"\n**{part}**: {title}\n\n{markdown(header, rows)}\n")
        for line in verdicts:
            print(f"- {line}", flush=True)


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
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: list[float], reference: list[float]) -> float:
    """Median over the rounds that both ran."""
    return median(a / b for a, b in zip(times, reference, strict=False))


def verdict(what: str, value: float, limit: float, *, least: bool = False, unit: str = "") -> str:
    """One line: the value, its limit, and whether it holds."""
    good = value >= limit if least else value <= limit
    kind = "at least" if least else "at most"
    return f"{what}: {value:,.2f}{unit}, {kind} {limit:,.2f}{unit}: {'met' if good else 'MISSED'}"


def report(title: str, header: tuple[str, ...], rows: list, verdicts: list[str]) -> None:
    """What a part prints for `main`."""
    print(json.dumps([title, header, rows, verdicts]))


def start() -> float:
    """Threads, and the scale from the command line."""
    import torch  # not at the top: other benches measure processes without torch

    torch.set_num_threads(2)
    return float(sys.argv[1])
