"""A training step with a memory beside the same step without one.

python -m bench.memory_step SCALE        JSON on standard output
"""

from statistics import median

import torch

import wideneck as wn
from bench.memory_case import model, text
from bench.parts import in_turns, ratio, report, start, verdict

BATCH, LENGTH, ROUNDS = 2, 512, 7


def main() -> None:
    scale = start()
    ids = text(BATCH, round(LENGTH * scale))
    without, name = wn.attach(model(), "softmax"), "without a memory"
    models = {
        name: without,
        "with a memory": wn.attach_memory(model()),
        "likelihood alone (alpha = 0)": wn.attach_memory(model(), alpha=0.0),
        "raw scores (Eq. 3)": wn.attach_memory(model(), wn.Memory.published()),
    }

    def step(trained):
        optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-6)
        trained.train()

        def run():
            optimizer.zero_grad()
            trained(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            optimizer.step()

        return run

    times = in_turns({n: step(m) for n, m in models.items()}, dict.fromkeys(models, ROUNDS))
    rows = [
        [
            n,
            str(len(t)),
            f"{min(t):.3f}",
            f"{median(t):.3f}",
            f"{ratio(t, times[name]):.3f}",
            f"{min(t) / min(times[name]):.3f}",
        ]
        for n, t in times.items()
    ]
    report(
        f"sizes of SmolLM2-135M, batch {BATCH}, length {ids.shape[1]}, float32, AdamW.",
        ("", "rounds", "min s", "median s", "ratio", "of minima"),
        rows,
        [verdict("time over that without", ratio(times["with a memory"], times[name]), 1.15)],
    )


if __name__ == "__main__":
    main()
