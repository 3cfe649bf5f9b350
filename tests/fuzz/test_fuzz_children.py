"""The limits of a child really bound it.

In a process of its own, since pytest's has threads and a child is forked.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import mmap, sys, time
from pathlib import Path
from bench.fuzz.children import Job, run_all

here = Path(sys.argv[1])
def allocate(): return bytearray(4 * 2**30)
def nearly(): return mmap.mmap(-1, 2 * 2**30, flags=mmap.MAP_PRIVATE)
def hang(): time.sleep(60)
def raises(): raise KeyError("x")
def leaves(): sys.exit("a word")
def kill(): import os; os.kill(os.getpid(), 11)
jobs = [Job(f.__name__, f, here, here / f"{f.__name__}.out", here / f"{f.__name__}.err", seconds=2)
        for f in (allocate, nearly, hang, raises, leaves, kill)]
for e in run_all(jobs):
    print(e.job.name, e.code, e.killed, e.job.stderr.read_text().strip().split("\\n")[-1])
"""


def test_memory_time_and_every_way_to_end(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ends = {
        line.split(" ", 1)[0]: line.split(" ", 1)[1].strip() for line in run.stdout.splitlines()
    }
    assert ends == {
        "allocate": "1 False MemoryError",
        "nearly": "0 False",
        "hang": "-9 True",
        "raises": "1 False KeyError: 'x'",
        "leaves": "1 False a word",
        "kill": "-11 False",
    }
