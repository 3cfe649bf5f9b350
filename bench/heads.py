"""Time and memory of the fused output layers, beside their peers and the floor.

    python -m bench heads                      everything, some 8 minutes on 2 quiet cores
    python -m bench heads softmax sweep        only these
    python -m bench heads --scale 0.05         small sizes, to see that it runs

Cases: softmax, sigsoftmax, mos, moss, bfloat16 (bench/cases.py), sweep (cost against N, K and
V, with the figure docs/bench-heads.svg), accuracy and accuracy-bfloat16.
`pip install wideneck[bench]` adds x-transformers, one of the peers.  The tables are Markdown.

All times are of a forward and a backward pass.  "x floor" is the median over rounds of the
time divided by the floor's in the same round (see bench/floor.py), and what limits judge;
"of minima" is the ratio of the two shortest times.  "first" is the first call of that size.
Token outputs are judged by their ratio to reduction "none", taken likewise, and a divergence from a
teacher's states by its ratio to the products of both, 4/3 of the floor.
"peak MB" is memory beyond inputs and gradients, in a process of its own.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from bench.cases import (
    CASES,
    COMPILED,
    ENTROPY,
    JSD,
    NONE,
    OURS,
    OUTPUTS,
    OUTPUTS_LIMIT,
    SOFTMAX,
    TEACHER,
    TEACHER_LIMIT,
    Case,
)
from bench.floor import fastest
from bench.parts import from_child, in_turns, ratio, report, run_parts, seconds, timed, verdict
from bench.peers import IMPLEMENTATIONS, Batch, step
from bench.resident import growth
from wideneck.functional.chunks import CHUNK_ROWS, CHUNK_SCORES

HEADER = ("", "rounds", "min s", "median s", "x floor", "of minima", "first s", "peak MB")
SLACK = 64e6
"""Bytes allowed to ours beyond two chunks of scores."""


PARTS = {
    **{name: f"heads.case {name}" for name in CASES},
    "sweep": "sweep.sweep",
    "accuracy": "accuracy.accuracy",
    "accuracy-bfloat16": "accuracy_bfloat16.errors",
}


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # An empty cache, so that the time of a first compilation is one.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        run_parts("heads", PARTS, arguments)


def case(name: str, scale: float) -> None:
    sizes = CASES[name].scaled(scale)
    floor, first, times = from_child("heads.timing", name, scale)
    peaks = {row: from_child("heads.peak", name, row, scale) for row in first}
    measured = {row: times[row] or [first[row]] for row in first}
    cells = {
        row: line for row, *line in timed({"floor": times["floor"]} | measured, times["floor"])
    }
    table = [["floor", *cells["floor"], "", ""]]
    for row in sizes.rows:
        if row in first:
            table.append([row, *cells[row], f"{first[row]:.2f}", f"{peaks[row] / 1e6:,.0f}"])
        else:
            table.append([row, "not installed", *[""] * 6])
    report(f"{sizes}.  Floor: {floor}.", HEADER, table, list(_verdicts(sizes, times, peaks)))


def timing(name: str, scale: float) -> tuple[str, dict[str, float], dict[str, list[float]]]:
    """The floor; seconds of the first call and of every round, by implementation and "floor"."""
    sizes = CASES[name].scaled(scale)
    batch = Batch.make(sizes)
    floor = fastest(batch.X, batch.W)
    runs = {row: partial(step, batch, IMPLEMENTATIONS[row](batch)) for row in sizes.installed}
    first = {row: seconds(run) for row, run in runs.items()}
    floor()
    # Of what has one round the first call must do.
    rounds = {row: num if num > 1 else 0 for row, num in sizes.rows.items()}
    rounds["floor"] = max(sizes.rows.values())
    return str(floor), first, in_turns({**runs, "floor": floor}, rounds, warm=False)


def peak(name: str, row: str, scale: float) -> int:
    """Bytes of one implementation on one case at the peak.

    The growth of the resident set between the inputs and the end of the first backward pass of that
    size, less the gradients.  A tiny batch has run before, so that threads do not count; where a
    compiler runs, the same batch has.

    Beyond its scores ours then shows some 20 to 40 MB, differing from run to run.  With
    MKL_DISABLE_FAST_MM=1 it was 4 MB in four runs of six, which points to buffers of MKL.
    """
    sizes = CASES[name].scaled(scale)
    _peak(sizes if row == COMPILED else replace(sizes, N=16, V=64), row)
    return _peak(sizes, row)


def _peak(sizes: Case, row: str) -> int:
    batch = Batch.make(sizes)
    loss = IMPLEMENTATIONS[row](batch)
    return growth(lambda: step(batch, loss)) - batch.gradient_bytes()


def chunk_bytes(sizes: Case) -> int:
    """The scores of one chunk, as wideneck.functional.scores chooses it."""
    K = sizes.K or 1
    rows = min(CHUNK_ROWS, max(256, CHUNK_SCORES // sizes.V))
    num_chunks = -(-sizes.N // max(1, rows // K))
    return -(-sizes.N // num_chunks) * K * sizes.V * 4


def _verdicts(sizes: Case, times: dict[str, list[float]], peaks: dict[str, int]) -> Iterator[str]:
    ours = times[OURS]
    yield verdict("time over the floor", ratio(ours, times["floor"]), sizes.limit)
    if sizes.softmax_limit is not None:
        yield verdict("time over our softmax", ratio(ours, times[SOFTMAX]), sizes.softmax_limit)
    for row in (OUTPUTS, ENTROPY):
        if times.get(row):
            yield verdict(
                f"time of {row} over {NONE}", ratio(times[row], times[NONE]), OUTPUTS_LIMIT
            )
    if times.get(TEACHER):
        # The three products of the student, and of the alike teacher the scores, a third of them.
        both = [4 / 3 * time for time in times["floor"]]
        for row in (TEACHER, JSD):
            yield verdict(
                f"time of {row} over both's products", ratio(times[row], both), TEACHER_LIMIT
            )
    rows = [row for row in peaks if row.startswith(OURS) and row not in (TEACHER, JSD)]
    worst = max(peaks[row] for row in rows)
    limit = 2 * chunk_bytes(sizes) + SLACK
    yield verdict("largest peak of ours", worst / 1e6, limit / 1e6, unit=" MB")
    if TEACHER in peaks:  # two layers' chunks
        worst = max(peaks[TEACHER], peaks[JSD]) / 1e6
        limit = (3 * chunk_bytes(sizes) + SLACK) / 1e6
        yield verdict("largest peak beside a teacher", worst, limit, unit=" MB")
