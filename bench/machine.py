"""What the benchmarks need of torch, run as processes of their own.

    python -m bench.machine speed          threads and speed of a large float32 product
    python -m bench.machine wide FILE      a head of 262,144 x 640 Gaussian numbers

A parent that holds much memory would hand its peak on to the children that it measures.
"""

import sys
import time

import torch
from safetensors.torch import save_file


def speed() -> str:
    """One line about what the machine gives today."""
    a, b = torch.randn(2048, 576), torch.randn(576, 49_152)
    out = torch.empty(2048, 49_152)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    gflops = 2 * 2048 * 576 * 49_152 / best / 1e9
    return f"{torch.get_num_threads()} threads, torch {torch.__version__}, {gflops:.0f} GFLOP/s"


if __name__ == "__main__":
    if sys.argv[1] == "speed":
        print(speed())
    else:
        torch.manual_seed(0)
        save_file({"lm_head.weight": torch.randn(262_144, 640)}, sys.argv[2])
