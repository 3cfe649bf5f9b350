"""Two processes find what one does, whether each has the whole matrix or some of its rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from watched_on_processes import CASES, KINDS, found

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [sys.executable, *launcher, str(HERE / "watched_on_processes.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_find_what_one_does(together, case):
    folder, told = together
    alone = found(*case, "alone")
    assert {"entropy", "head_gradient_share", "effective_rank", "mean_row_share"} <= set(alone[0])
    for kind in KINDS:
        name = f"{kind} {case[0]} {case[1]}"
        for ours, one in zip(told[name], alone, strict=True):
            assert set(ours) == set(one)
            for quantity, value in one.items():
                assert ours[quantity] == pytest.approx(value, rel=2e-4, abs=1e-7), (name, quantity)
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
