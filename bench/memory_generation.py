"""A generated token with a memory beside one of the model as transformers has it.

python -m bench.memory_generation SCALE        JSON on standard output
"""

from statistics import median

import torch

import wideneck as wn
from bench.memory_case import model, text
from bench.parts import in_turns, ratio, report, start, verdict

CONTEXT, TOKENS, ROUNDS = 512, 32, 9


def main() -> None:
    scale = start()
    ids = text(1, round(CONTEXT * scale))
    plain, name = model().eval(), "transformers"
    models = {name: plain, "with a memory": wn.attach_memory(model().eval())}

    def tokens(generating, count):
        fixed = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}

        def run():
            with torch.no_grad():
                generating.generate(ids, attention_mask=torch.ones_like(ids), **fixed)

        return run

    runs = {(n, count): tokens(m, count) for n, m in models.items() for count in (1, 1 + TOKENS)}
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    each = {
        n: [
            (many - one) / TOKENS
            for one, many in zip(times[n, 1], times[n, 1 + TOKENS], strict=True)
        ]
        for n in models
    }
    rows = [
        [
            n,
            str(len(t)),
            f"{1000 * min(t):.2f}",
            f"{1000 * median(t):.2f}",
            f"{ratio(t, each[name]):.3f}",
            f"{median(times[n, 1]):.3f}",
        ]
        for n, t in each.items()
    ]
    report(
        f"sizes of SmolLM2-135M, {ids.shape[1]} tokens of context, {TOKENS} new ones, greedy.",
        ("", "rounds", "min ms a token", "median ms", "ratio", "s for the prompt"),
        rows,
        [verdict("time a token over transformers", ratio(each["with a memory"], each[name]), 1.25)],
    )


if __name__ == "__main__":
    main()
