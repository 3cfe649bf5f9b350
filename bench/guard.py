"""What the guard of an attached head costs: of a training step, and of a generated token.

    python -m bench guard [--scale X]

Its work is some microseconds, far below what a step scatters by.  So it is timed alone, as the
difference between a call in its frames and the same call without, and compared with a step and a
token of the same run.
"""

from functools import partial
from statistics import median

from torch import nn

import wideneck as wn
from bench.memory import (
    BATCH,
    LENGTH,
    TOKENS,
    continued,
    model,
    seconds_a_token,
    text,
    training_step,
)
from bench.parts import in_turns, report, run_parts, verdict
from wideneck.attached.guard import guarded, head_is_called
from wideneck.attached.head_in_model import Asked, HeadCall

ROUNDS, CALLS = 5, 20_000

main = partial(run_parts, "guard", {"call": "guard.call"})


def calls(attached):
    """What one forward does with the guard, and the same without.

    A frame outside, one inside, the head's call in it, and as many reads of its parameters as a
    fused loss makes.
    """
    head = attached.lm_head
    asked = HeadCall(head, Asked(None, None, -100, True, True))

    def compute():
        return head.weight, head.bias, head.weight

    def answered():
        head_is_called()
        assert asked.is_for(head)
        return compute()

    def with_guard():
        for _ in range(CALLS):
            guarded(attached, lambda: guarded(attached, answered, (), {}, own=True), (), {})

    plain = nn.Linear(1, 1)

    def without():
        for _ in range(CALLS):
            (lambda: (lambda: (plain.weight, plain.bias, plain.weight))())()

    return {"with": with_guard, "without": without}


def call(scale: float) -> None:
    """The guard's microseconds beside a step's and a token's."""
    attached = wn.attach(model(), "softmax")
    length = round(LENGTH * scale)
    ids = text(BATCH, length)
    runs = {
        "step": training_step(attached, ids, ids),
        "one": continued(attached, text(1, length), 1),
        "many": continued(attached, text(1, length), 1 + TOKENS),
        **calls(attached),
    }
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    guard = median(a - b for a, b in zip(times["with"], times["without"], strict=True)) / CALLS
    token = median(seconds_a_token(times["many"], times["one"]))
    others = {f"a training step, batch {BATCH}": median(times["step"]), "a generated token": token}
    rows = [
        [name, f"{1e3 * seconds:,.2f}", f"{1e6 * guard:.1f}", f"{100 * guard / seconds:.4f}"]
        for name, seconds in others.items()
    ]
    title = f"sizes of SmolLM2-135M, length {length}, float32, {CALLS:,} calls of the guard."
    of_step, of_token = (100 * guard / seconds for seconds in others.values())
    report(
        title,
        ("of", "ms", "guard, microseconds", "share %"),
        rows,
        [
            verdict("of a training step", of_step, 0.1, unit=" %"),
            verdict("of a generated token", of_token, 1.0, unit=" %"),
        ],
    )
