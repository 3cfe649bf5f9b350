"""A whole step of an AWD-LSTM with a mixture of softmaxes, beside the head written plainly.

    python -m bench.train_step SCALE        JSON on standard output
    python -m bench.train_step SCALE NAME   bytes at the peak of one step, in this process alone

Peak memory is the growth of the resident set over a step, gradients included, after a step on
short segments; see bench/resident.py.
"""

import subprocess
import sys

from bench.parts import in_turns, ratio, report, start, verdict
from bench.resident import growth
from bench.train_case import (
    BATCH,
    SEGMENT,
    VOCAB_SIZE,
    LstmStep,
    fused,
    mixture,
    plain,
    segment,
    timed,
)

K, ROUNDS = 15, 7
FASTER, SMALLER = 1.25, 5.0
OURS, PLAIN = "wideneck", "the form of zihangdai/mos"
LOSSES = {OURS: fused, PLAIN: plain}
HEADER = ("", "rounds", "min s", "median s", "x plain", "of minima", "peak MB")


def main() -> None:
    scale = start()
    vocab_size = max(64, round(VOCAB_SIZE * scale))
    if len(sys.argv) > 2:
        print(peak(sys.argv[2], vocab_size))
        return
    peaks = {name: _peak_of_its_own(name) for name in LOSSES}
    steps = {name: LstmStep(mixture(K), nll, vocab_size) for name, nll in LOSSES.items()}
    given = segment(vocab_size)
    runs = {name: lambda step=step: step(*given) for name, step in steps.items()}
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    rows = timed(times, times[PLAIN])
    for row in rows:
        row.append(f"{peaks[row[0]] / 1e6:,.0f}")
    report(
        f"a training step, {steps[OURS].model.num_parameters:,} parameters, MoS K = {K}, "
        f"{BATCH} x {SEGMENT} tokens, V {vocab_size:,}: forward, backward, clipping, SGD.",
        HEADER,
        rows,
        [
            verdict("times faster", ratio(times[PLAIN], times[OURS]), FASTER, least=True),
            verdict("times less memory", peaks[PLAIN] / peaks[OURS], SMALLER, least=True),
        ],
    )


def _peak_of_its_own(name: str) -> int:
    command = [sys.executable, "-m", "bench.train_step", sys.argv[1], name]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def peak(name: str, vocab_size: int) -> int:
    """Bytes that one step adds to this process at most."""
    step = LstmStep(mixture(K), LOSSES[name], vocab_size)
    step(*segment(vocab_size, 2))  # threads and libraries
    given = segment(vocab_size)
    return growth(lambda: step(*given))


if __name__ == "__main__":
    main()
