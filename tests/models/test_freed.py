"""What is freed, measured in a process of its own: the setting is a process's."""

import subprocess
import sys

import pytest

CODE = """
import torch
from wideneck.models.freed import return_what_is_freed

def held():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000

if {wanted}:
    assert return_what_is_freed()
torch.ones(4_000_000).sum()  # 16 MB, which glibc learns to take from its heap when it is freed
before, kept = held(), []
blocks = [torch.ones(2_000_000) for _ in range(20)]
kept = [torch.ones(1000).clone() for _ in range(100)]  # stand behind them on the heap
del blocks
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc, and read from /proc")
def test_freed_blocks_go_back_to_the_system():
    grown = [
        float(
            subprocess.run(
                [sys.executable, "-c", CODE.format(wanted=wanted)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for wanted in (True, False)
    ]
    assert grown[0] < 20  # MB, of 160
    assert grown[1] > grown[0] + 20
