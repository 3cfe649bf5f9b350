"""Attention normalizers, fused attention and the audit's attention section.

    python -m bench attention                  everything, some 7 minutes on 2 quiet cores
    python -m bench attention rows fused       only these

Parts: rows (sparsemax and entmax beside the `entmax` package), fused (softmaxes of changed scores
beside PyTorch's attention), section (the audit at the paper's setting), scan (its critical N).
`pip install wideneck[dev]` brings entmax.  The tables are Markdown.

All times are of a forward and a backward pass unless said otherwise, in seconds; "ratio" is the
median over rounds of the time over the reference's in the same round.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from bench.table import markdown

PARTS = ("rows", "fused", "section", "scan")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench attention")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor of rows and batch")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        sys.exit(f"bench attention has the parts {', '.join(PARTS)}, not {unknown[0]}")
    subprocess.run([sys.executable, "-m", "bench.machine", "speed"], check=True)
    for name in options.parts or PARTS:
        command = [sys.executable, "-m", f"bench.attention_{name}", str(options.scale)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        title, header, rows, verdicts = json.loads(done.stdout)
        print(f"\n**{name}**: {title}\n\n{markdown(header, rows)}\n")
        for line in verdicts:
            print(f"- {line}", flush=True)


def in_turns(runs: dict[str, Callable[[], object]], rounds: dict[str, int]) -> dict[str, list]:
    """Seconds of every round, taken in turns so that drift hits all alike; one warm-up each."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
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
