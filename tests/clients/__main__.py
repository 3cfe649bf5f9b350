"""`python -m clients [CLIENT ...] [--jobs N] [--write PAGE]`: run the rows, print their table.

The exit status is 1 if a row failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clients.rows import ROOT, Row, layer, rows
from clients.table import Seen, markdown, seen, written


def run(row: Row) -> tuple[bool, list[Seen]]:
    """Whether the tests of a row passed, in a process of their own, and what they showed."""
    paths = [*map(str, map(layer, row.pins)), str(ROOT / "src"), str(ROOT / "tests")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        # Other people's warnings, at their older versions, are no fault of ours.
        pytest = [sys.executable, "-m", "pytest", "-W", "default", f"--junit-xml={report}"]
        done = subprocess.run(
            [*pytest, *row.tests], cwd=ROOT, env=environment, text=True, capture_output=True
        )
        passed = done.returncode == 0
        lines = seen(row, report, passed)
    output = (done.stdout + done.stderr).strip()
    shown = output.splitlines()[-1] if passed else output
    print(f"{row.name} {row.version}, {time.monotonic() - begun:.0f} s: {shown}", flush=True)
    return passed, lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m clients")
    parser.add_argument("clients", nargs="*", help="only these clients")
    parser.add_argument("--jobs", type=int, default=2, help="rows at once, each on one thread")
    parser.add_argument("--write", type=Path, help="write the table into this page")
    arguments = parser.parse_args()
    if arguments.write and arguments.clients:
        parser.error("--write needs the rows of all clients: name none")
    chosen = rows(arguments.clients)
    for pin in {pin: None for row in chosen for pin in row.pins}:  # before two rows want the same
        layer(pin)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        done = list(pool.map(run, chosen))
    table = markdown(line for _, lines in done for line in lines)
    print(f"\n{table}")
    if arguments.write:
        arguments.write.write_text(written(arguments.write.read_text(), table))
    return 0 if all(passed for passed, _ in done) else 1


if __name__ == "__main__":
    sys.exit(main())
