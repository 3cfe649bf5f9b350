"""DDP and FSDP2, in two processes: step by step the losses of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attachable import token_ids

import wideneck as wn

HERE = Path(__file__).parent
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def printed(launcher, script, *arguments):
    """What a script says, under torchrun or without."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, *launcher, str(HERE / script), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def losses(launcher, kind, folder):
    return printed(launcher, "losses_on_processes.py", kind, str(folder))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return losses([], "ddp", tmp_path_factory.mktemp("alone"))["losses"]


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
@torch.no_grad()
def test_two_processes_train_as_one(kind, alone, tmp_path):
    together = losses(TORCHRUN, kind, tmp_path)
    assert together["num_processes"] == 2
    for case, expected in alone.items():
        assert expected[-1] < expected[0] - 0.1
        assert together["losses"][case] == pytest.approx(expected, rel=1e-5)

        ids = token_ids(0, (4, 12))
        saved = wn.load(tmp_path / case)(input_ids=ids, labels=ids).loss
        assert float(saved) == pytest.approx(expected[-1], rel=1e-5)
