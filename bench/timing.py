"""Times one case's implementations and the floor in turns, so that drift hits all alike.

python -m bench.timing CASE SCALE        JSON on standard output
"""

import json
import sys

import torch

from bench.cases import CASES, installed
from bench.floor import fastest, seconds
from bench.peers import IMPLEMENTATIONS, Batch, step


def measure(name: str, scale: float) -> dict:
    """Seconds of the first call and of every round, by implementation; the floor is one."""
    case = CASES[name].scaled(scale)
    batch = Batch.make(case)
    floor = fastest(batch.X, batch.W)
    runs = {}
    for row in filter(installed, case.rows):
        loss = IMPLEMENTATIONS[row](batch)
        runs[row] = lambda loss=loss: step(batch, loss)
    first = {row: seconds(run) for row, run in runs.items()}
    floor()
    times: dict[str, list[float]] = {row: [] for row in [*runs, "floor"]}
    for turn in range(max(case.rows.values())):
        for row, run in runs.items():
            if turn < case.rows[row] and case.rows[row] > 1:
                times[row].append(seconds(run))
        times["floor"].append(seconds(floor))
    return {"first": first, "times": times, "floor": str(floor)}


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(measure(sys.argv[1], float(sys.argv[2]))))
