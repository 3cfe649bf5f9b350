"""A plain mistake, no WideneckError, on one of two processes: the other ends, too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wideneck.models.ranks import ALONE, joined

HERE = Path(__file__).parent
PLACES = ("before the work", "in a piece of work", "after the work")
PLANTED, GONE, SILENT = 3, 4, 5


def test_no_process_waits_for_one_that_has_broken():
    """A mistake in shared work is raised on both; elsewhere the other says that one is gone."""
    cases = [(place, who) for place in PLACES for who in (0, 1)]
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, HERE / "mistakes_on_ranks.py"],
        input=json.dumps(cases),
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
        text=True,
    )
    for (place, who), codes in zip(cases, json.loads(done.stdout), strict=True):
        if place == "in a piece of work":
            want = [PLANTED, PLANTED]
        else:  # a rank that is not the first ends in silence
            want = [PLANTED, SILENT] if who == 0 else [GONE, PLANTED]
        assert codes == want, (place, who)


def test_alone_a_mistake_is_raised_as_it_is(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with joined() as ranks:
        assert ranks is ALONE
        with pytest.raises(ZeroDivisionError):
            list(ranks.in_order(2, lambda i: 1 // i))
