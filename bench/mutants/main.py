"""`python -m bench mutants PACKAGE`: plant errors drawn from a seed, and see which no test tells.

    python -m bench mutants functional                              30 mutants of seed 0
    python -m bench mutants functional --count 60 --seed 7          others
    python -m bench mutants functional --seed 7 --mutant 12         one of them: what pytest said
    python -m bench mutants functional --module functional/loss.py  those of one module

PACKAGE is a table of `packages.toml`.  The work is done by `bench.mutants.session` in a copy of
this tree, as it is now, that is deleted at the end: no file here is ever changed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from bench.fuzz.main import OFFLINE, ONE_THREAD

ROOT = Path(__file__).parents[2]


def main(argv: list[str]) -> None:
    if find_spec("cosmic_ray") is None:
        sys.exit("cosmic-ray is not installed: `make mutants PACKAGE=...` installs it.")
    with tempfile.TemporaryDirectory(prefix="wideneck-mutants-") as place:
        tree = Path(place) / "tree"
        # Without environments, caches and the history, whose names begin with a dot.
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*"))
        environment = os.environ | ONE_THREAD | OFFLINE
        environment |= {"HF_HOME": f"{place}/hub", "TMPDIR": place}
        environment |= {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "src")])}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # every child would compile everything
        command = [sys.executable, "-m", "bench.mutants.session", place, *argv]
        sys.exit(subprocess.run(command, env=environment, cwd=tree, check=False).returncode)
