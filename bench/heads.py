"""Time and memory of the fused output layers, beside their peers and the floor.

    python -m bench heads                      everything, some 8 minutes on 2 quiet cores
    python -m bench heads softmax sweep        only these
    python -m bench heads --scale 0.05         small sizes, to see that it runs

Cases: softmax, sigsoftmax, mos, moss, bfloat16 (bench/cases.py), sweep (cost against N, K and
V, with the figure docs/bench-heads.svg) and accuracy.  `pip install wideneck[bench]` adds
x-transformers, one of the peers.  The tables are Markdown.

All times are of a forward and a backward pass.  "x floor" is the median over rounds of the
time divided by the floor's in the same round (see bench/floor.py), and what limits judge;
"of minima" is the ratio of the two shortest times.  "first" is the first call of that size.
Token outputs are judged by their ratio to reduction "none", taken likewise.
"peak MB" is memory beyond inputs and gradients, in a process of its own (see bench/peak.py).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median

from bench.cases import (
    CASES,
    ENTROPY,
    NONE,
    OURS,
    OUTPUTS,
    OUTPUTS_LIMIT,
    SOFTMAX,
    Case,
    installed,
)
from bench.table import markdown

EXTRAS = ("sweep", "accuracy")
HEADER = ("", "rounds", "min s", "median s", "x floor", "of minima", "first s", "peak MB")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench heads")
    names = (*CASES, *EXTRAS)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(names))
    parser.add_argument("--scale", type=float, default=1.0, help="factor of N and V")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.cases if name not in names]
    if unknown:
        sys.exit(f"bench heads has the cases {', '.join(names)}, not {unknown[0]}")
    subprocess.run([sys.executable, "-m", "bench.machine", "speed"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        # An empty cache, so that the time of a first compilation is one.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        for name in options.cases or names:
            if name in CASES:
                _case(name, options.scale)
            else:
                print(flush=True)
                command = [sys.executable, "-m", f"bench.{name}", str(options.scale)]
                subprocess.run(command, check=True)


def _case(name: str, scale: float) -> None:
    case = CASES[name].scaled(scale)
    timed = _child("bench.timing", name, str(scale))
    rows = [row for row in case.rows if installed(row)]
    peaks = {row: _child("bench.peak", name, row, str(scale)) for row in rows}
    floor = timed["times"]["floor"]
    table = [["floor", str(len(floor)), *_times(floor, floor), "", ""]]
    for row in case.rows:
        if row not in rows:
            table.append([row, "not installed", *[""] * 6])
            continue
        first, times = timed["first"][row], timed["times"][row]
        peak = f"{peaks[row]['peak'] / 1e6:,.0f}"
        measured = _times(times or [first], floor)
        table.append([row, str(len(times) or 1), *measured, f"{first:.2f}", peak])
    print(f"\n**{name}**: {case}.  Floor: {timed['floor']}.\n\n{markdown(HEADER, table)}\n")
    for line in _verdicts(case, timed["times"], peaks):
        print(f"- {line}", flush=True)


def _child(module: str, *arguments: str) -> dict:
    command = [sys.executable, "-m", module, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _times(times: list[float], floor: list[float]) -> list[str]:
    of_minima = min(times) / min(floor)
    return [
        f"{min(times):.3f}",
        f"{median(times):.3f}",
        f"{_paired(times, floor):.2f}",
        f"{of_minima:.2f}",
    ]


def _paired(times: list[float], others: list[float]) -> float:
    """Median ratio of the times of the same round; the shorter list is the first rounds'."""
    return median(a / b for a, b in zip(times, others, strict=False))


def _verdicts(case: Case, times: dict[str, list[float]], peaks: dict[str, dict]):
    ours = times[OURS]
    yield _verdict("time over the floor", _paired(ours, times["floor"]), case.limit, "")
    if case.softmax_limit is not None:
        ratio = _paired(ours, times[SOFTMAX])
        yield _verdict("time over our softmax", ratio, case.softmax_limit, "")
    for row in (OUTPUTS, ENTROPY):
        if times.get(row):
            ratio = _paired(times[row], times[NONE])
            yield _verdict(f"time of {row} over {NONE}", ratio, OUTPUTS_LIMIT, "")
    worst = max(peaks[row]["peak"] for row in peaks if row.startswith(OURS))
    limit = peaks[OURS]["limit"]
    yield _verdict("largest peak of ours", worst / 1e6, limit / 1e6, " MB")


def _verdict(what: str, value: float, limit: float, unit: str) -> str:
    places = 0 if unit else 2
    word = "within" if value <= limit else "ABOVE"
    return f"{what}: {value:,.{places}f}{unit}, limit {limit:,.{places}f}{unit}: {word}"
