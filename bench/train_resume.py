"""What an interruption costs: checkpoints, and how soon a run goes on.

python -m bench.train_resume SCALE        JSON on standard output

The AWD-LSTM with 15 softmaxes, with AdamW and with averaged SGD, in processes of their own: one
trains a step and writes the checkpoint, the next takes it up (bench/train_restart.py).  Then by
the command line: `wideneck train` on a text of the size of WikiText-2 is killed, started again,
and timed until its first new step is in the metrics: with the start of the interpreter, imports,
and the reading of the text.

Memory is that of the process at its peak, above what it held before and holds after.  Reading
counts the pages of the file that are mapped meanwhile, which the system can take back.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.parts import report, verdict
from bench.train_restart import OPTIMIZERS, K
from bench.train_text import killed_after_a_checkpoint, seconds_to_a_new_step, write_recipe

SECONDS, SHARE, SUMS = 5.0, 1.0, 0.05
HEADER = ("", "seconds", "memory MB", "of the checkpoint")


def main() -> None:
    scale = float(sys.argv[1])
    rows, verdicts = [], []
    with tempfile.TemporaryDirectory() as name:
        for optimizer in OPTIMIZERS:
            first, second = (_process(optimizer, Path(name) / optimizer) for _ in range(2))
            size = first["size"]
            resumed = second["model"] + second["restore"] + second["step"]
            for what, found, seconds in (
                (f"write {size / 1e6:,.0f} MB", first, first["save"]),
                ("read them", second, second["restore"]),
            ):
                beyond = found["peak"] - found["kept"]
                cells = [f"{seconds:.2f}", f"{beyond / 1e6:,.0f}", f"{beyond / size:.2f}"]
                rows.append([f"{optimizer}: {what}", *cells])
                share = f"{optimizer}, {what}: memory over the size"
                verdicts.append(verdict(share, beyond / size, SHARE))
            sums, others = first["sums"], first["save"] - first["sums"]
            rate = f"{size / sums / 1e9:.1f} GB/s"
            rows.append([f"{optimizer}: of writing, the sums ({rate})", f"{sums:.3f}", "", ""])
            share = f"{optimizer}: sums over the rest of writing"
            verdicts.append(verdict(share, sums / others, SUMS))
            rows.append([f"{optimizer}: model, read, a step", f"{resumed:.2f}", "", ""])
            whole = f"{optimizer}: until a new step is done"
            verdicts.append(verdict(whole, resumed, SECONDS, unit=" s"))
        recipe, out = write_recipe(Path(name), scale), Path(name) / "run"
        killed_after_a_checkpoint(recipe, out)
        again = seconds_to_a_new_step(recipe, out)
        rows.append(["wideneck train, started again", f"{again:.2f}", "", ""])
    report(f"AWD-LSTM with MoS, K = {K}; checkpoints on the disk.", HEADER, rows, verdicts)


def _process(optimizer: str, place: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.train_restart", sys.argv[1], optimizer, str(place)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    main()
