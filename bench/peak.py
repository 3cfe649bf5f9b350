"""Peak memory of one implementation on one case, in this process and for nothing else.

    python -m bench.peak CASE ROW SCALE        JSON on standard output

The growth of the resident set between the inputs and the end of the first backward pass of that
size, less the gradients.  A tiny batch has run before, so that
threads do not count; where a compiler runs, the same batch has.

Beyond its scores ours then shows some 20 to 40 MB, differing from run to run.  With
MKL_DISABLE_FAST_MM=1 it was 4 MB in four runs of six, which points to buffers of MKL.
"""

import json
import sys
from dataclasses import replace

import torch

from bench.cases import CASES, COMPILED, Case
from bench.peers import IMPLEMENTATIONS, Batch, step
from bench.resident import growth
from wideneck.functional.scores import CHUNK_ROWS, CHUNK_SCORES

SLACK = 64e6
"""Bytes allowed beyond two chunks of scores."""


def measure(name: str, row: str, scale: float) -> dict[str, float]:
    """Bytes at the peak, and bytes allowed to ours."""
    case = CASES[name].scaled(scale)
    _run(case if row == COMPILED else replace(case, N=16, V=64), row)
    return {"peak": _run(case, row), "limit": 2 * chunk_bytes(case) + SLACK}


def chunk_bytes(case: Case) -> int:
    """The scores of one chunk, as wideneck.functional.scores chooses it."""
    K = case.K or 1
    rows = min(CHUNK_ROWS, max(256, CHUNK_SCORES // case.V))
    num_chunks = -(-case.N // max(1, rows // K))
    return -(-case.N // num_chunks) * K * case.V * 4


def _run(case: Case, row: str) -> int:
    batch = Batch.make(case)
    loss = IMPLEMENTATIONS[row](batch)
    return growth(lambda: step(batch, loss)) - batch.gradient_bytes()


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(measure(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
