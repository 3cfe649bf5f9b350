"""What the machine gives today, in a process whose peak no measured one inherits.

python -m bench.machine        threads and speed of a large float32 product
"""

import torch

from bench.parts import seconds


def speed() -> str:
    """One line."""
    a, b = torch.randn(2048, 576), torch.randn(576, 49_152)
    out = torch.empty(2048, 49_152)
    best = min(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(5))
    gflops = 2 * 2048 * 576 * 49_152 / best / 1e9
    return f"{torch.get_num_threads()} threads, torch {torch.__version__}, {gflops:.0f} GFLOP/s"


if __name__ == "__main__":
    print(speed())
