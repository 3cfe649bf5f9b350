import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wideneck.errors import WideneckError
from wideneck.lab.side_by_side import UNITS, side_by_side


def squared(job, show):
    show(0.5)
    return job * job


def dies(job, show):
    os._exit(3)


def sleeps(job, show):
    Path(job).write_text(str(os.getpid()))
    time.sleep(120)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_job_comes_back_with_its_result_and_all_progress_is_told(processes):
    told = []

    results = dict(
        side_by_side(
            squared,
            [1, 2, 3],
            lambda units, total: told.append((units, total)),
            processes=processes,
        )
    )

    assert results == {1: 1, 2: 4, 3: 9}
    assert all(total == 3 * UNITS for _, total in told)
    assert [units for units, _ in told] == sorted(units for units, _ in told)
    assert told[-1] == (3 * UNITS, 3 * UNITS)  # what a job does not tell of, its end does


def test_a_process_that_dies_is_one_sentence():
    with pytest.raises(WideneckError, match="the finished ones are kept"):
        list(side_by_side(dies, [1, 2], lambda units, total: None, processes=2))


def test_no_jobs_need_no_process():
    assert list(side_by_side(squared, [], lambda units, total: None)) == []


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    files = [tmp_path / "one", tmp_path / "two"]
    code = (
        "from lab.test_side_by_side import side_by_side, sleeps\n"
        f"list(side_by_side(sleeps, {[str(f) for f in files]}, lambda *a: None, processes=2))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    until(lambda: all(file.exists() and file.read_text() for file in files))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not any(alive(int(file.read_text())) for file in files))


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that nobody waits for is dead, too
        return not Path(f"/proc/{pid}/stat").read_text().split(")")[-1].startswith(" Z")
    except FileNotFoundError:
        return False
