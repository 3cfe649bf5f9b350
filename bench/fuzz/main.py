"""`python -m bench fuzz`: the corpus, or others drawn from a seed, or one case again.

    python -m bench fuzz                          every change of the tables
    python -m bench fuzz --corpus                 those of them that the test suite runs
    python -m bench fuzz --seed 7 --cases 3000    drawn: tables combined, random bytes and numbers
    python -m bench fuzz --seed 7 --case 1234     one of them again, with what it printed
    python -m bench fuzz --case config/layers-1e12/head    one of the tables
    python -m bench fuzz --only gguf              the cases of one format

The work is done by `bench.fuzz.session`, in a process that has one thread from its start on, since
the cases are forked from it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
UNSET = ("WIDENECK_DEBUG", "TQDM_DISABLE", "PYTHONWARNINGS", "COLUMNS")
"""What would change what a user sees."""


def main(argv: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="wideneck-fuzz-") as place:
        sys.exit(run(argv, Path(place)).returncode)


def run(argv: list[str], place: Path, **options: object) -> subprocess.CompletedProcess:
    """One session in a process of its own, with everything it writes in `place`."""
    root = Path(__file__).parents[2]
    paths = [str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {k: v for k, v in os.environ.items() if k not in UNSET}
    environment |= ONE_THREAD | OFFLINE
    environment |= {"HF_HOME": str(place / "hub"), "HOME": str(place), "TMPDIR": str(place)}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "bench.fuzz.session", str(place), *argv]
    return subprocess.run(command, env=environment, check=False, **options)  # type: ignore
