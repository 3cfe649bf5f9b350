"""The guard's microseconds beside a step's and a token's.

python -m bench.guard_call SCALE        JSON on standard output
"""

from statistics import median

import torch
from torch import nn

import wideneck as wn
from bench.memory_case import model, text
from bench.parts import in_turns, report, start, verdict
from wideneck.attached.guard import guarded, head_is_called
from wideneck.attached.head_in_model import Asked, HeadCall

BATCH, LENGTH, TOKENS, ROUNDS, CALLS = 2, 512, 32, 5, 20_000


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


def main() -> None:
    scale = start()
    attached = wn.attach(model(), "softmax")
    length = round(LENGTH * scale)
    ids, prompt = text(BATCH, length), text(1, length)
    optimizer = torch.optim.AdamW(attached.parameters(), lr=1e-6)

    def step():
        attached.train()
        optimizer.zero_grad()
        attached(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()

    def tokens(count):
        def run():
            fixed = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
            with torch.no_grad():
                attached.eval().generate(prompt, attention_mask=torch.ones_like(prompt), **fixed)

        return run

    runs = {"step": step, "one": tokens(1), "many": tokens(1 + TOKENS), **calls(attached)}
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    guard = median(a - b for a, b in zip(times["with"], times["without"], strict=True)) / CALLS
    token = median(a - b for a, b in zip(times["many"], times["one"], strict=True)) / TOKENS
    others = {f"a training step, batch {BATCH}": median(times["step"]), "a generated token": token}
    rows = [
        [name, f"{1e3 * seconds:,.2f}", f"{1e6 * guard:.1f}", f"{100 * guard / seconds:.4f}"]
        for name, seconds in others.items()
    ]
    title = f"sizes of SmolLM2-135M, length {length}, float32, {CALLS:,} calls of the guard."
    shares = [100 * guard / seconds for seconds in others.values()]
    report(
        title,
        ("of", "ms", "guard, microseconds", "share %"),
        rows,
        [
            verdict("of a training step", shares[0], 0.1, unit=" %"),
            verdict("of a generated token", shares[1], 1.0, unit=" %"),
        ],
    )


if __name__ == "__main__":
    main()
