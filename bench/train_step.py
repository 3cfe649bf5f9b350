"""A whole step of an AWD-LSTM with a mixture of softmaxes, beside the head written plainly.

Peak memory is the growth of the resident set over a step, gradients included, after a step on
short segments, in a process of its own; see bench/resident.py.
"""

from bench.child import from_child
from bench.parts import in_turns, ratio, report, timed, verdict
from bench.resident import growth
from bench.train import BATCH, SEGMENT, LstmStep, fused, mixture, plain, segment, words

K, ROUNDS = 15, 7
FASTER, SMALLER = 1.25, 5.0
OURS, PLAIN = "wideneck", "the form of zihangdai/mos"
LOSSES = {OURS: fused, PLAIN: plain}
HEADER = ("", "rounds", "min s", "median s", "x plain", "of minima", "peak MB")


def step(scale: float) -> None:
    vocab_size = words(scale)
    peaks = {name: from_child("train_step.peak", name, vocab_size) for name in LOSSES}
    steps = {name: LstmStep(mixture(K), nll, vocab_size) for name, nll in LOSSES.items()}
    given = segment(vocab_size)
    runs = {name: lambda step=step: step(*given) for name, step in steps.items()}
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    rows = timed(times, times[PLAIN])
    report(
        f"a training step, {steps[OURS].model.num_parameters:,} parameters, MoS K = {K}, "
        f"{BATCH} x {SEGMENT} tokens, V {vocab_size:,}: forward, backward, clipping, SGD.",
        HEADER,
        [[*row, f"{peaks[row[0]] / 1e6:,.0f}"] for row in rows],
        [
            verdict("times faster", ratio(times[PLAIN], times[OURS]), FASTER, least=True),
            verdict("times less memory", peaks[PLAIN] / peaks[OURS], SMALLER, least=True),
        ],
    )


def peak(name: str, vocab_size: int) -> int:
    """Bytes that one step adds to this process at most."""
    step = LstmStep(mixture(K), LOSSES[name], vocab_size)
    step(*segment(vocab_size, 2))  # threads and libraries
    given = segment(vocab_size)
    return growth(lambda: step(*given))
