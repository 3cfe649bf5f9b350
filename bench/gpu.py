"""What wideneck costs on an accelerator, beside the floor and its peers, in one run.

    python -m bench gpu --out FOLDER                  all parts, some 10 minutes
    python -m bench gpu losses sweep --out FOLDER     only these
    python -m bench gpu --dry-run --out FOLDER        all parts at tiny sizes, on a CPU too

Each part is a process of its own with a limit of its own, and each row is in FOLDER/PART.jsonl as
soon as it is measured, so that a run that is cut off keeps what it had.  The tables come last.
Runs from a source tree: `PYTHONPATH=src python -m bench gpu ...`.  Peers are measured where they
are installed (liger-kernel, cut-cross-entropy, quack-kernels, adasplash), else named as missing.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.parts import one_of
from bench.table import markdown

Row = dict[str, Any]

PARTS = {  # name: (what makes its rows, seconds allowed)
    "ceilings": ("gpu_loss.ceilings", 20),
    "correct": ("gpu_correct.correct", 120),
    "losses": ("gpu_loss.losses", 160),
    "sweep": ("gpu_loss.sweep", 60),
    "attention": ("gpu_attention.attention", 100),
    "audit": ("gpu_models.audit", 150),
    "layers": ("gpu_models.layers", 60),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench gpu")
    parser.add_argument("parts", nargs="*", metavar="PART", type=one_of(PARTS))
    parser.add_argument("--out", type=Path, required=True, help="folder for the rows")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on a CPU too")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    asked = options.parts or [*PARTS]
    for part in asked:
        function, limit = PARTS[part]
        command = [sys.executable, "-m", "bench.gpu", function, str(options.out / f"{part}.jsonl")]
        start = time.perf_counter()
        try:
            code = subprocess.run([*command, str(int(options.dry_run))], timeout=limit).returncode
            said = "" if code == 0 else f", ENDED WITH {code}"
        except subprocess.TimeoutExpired:
            said = f", CUT OFF at {limit} s"
        print(f"{part}: {time.perf_counter() - start:.0f} s{said}", file=sys.stderr, flush=True)
    for part in asked:
        print(f"\n**{part}**\n\n{table(options.out / f'{part}.jsonl')}", flush=True)


def table(file: Path) -> str:
    """The rows of a part, with a column for every name that any of them has."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    rows: list[Row] = [json.loads(line) for line in lines]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return markdown(names, [[_cell(row.get(name)) for name in names] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def child(function: str, file: str, dry_run: str) -> None:
    """Writes each row of a part to its file as soon as it is there."""
    import torch

    tiny = dry_run == "1"
    if not tiny and not torch.cuda.is_available():
        sys.exit("No CUDA device: give --dry-run to go through the parts on a CPU.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module, name = function.split(".")
    rows: Callable[..., Iterator[Row]] = getattr(import_module(f"bench.{module}"), name)
    with open(file, "w", encoding="utf-8") as out:
        for row in rows(device, tiny=tiny):
            out.write(json.dumps(row) + "\n")
            out.flush()


if __name__ == "__main__":
    child(*sys.argv[1:])
