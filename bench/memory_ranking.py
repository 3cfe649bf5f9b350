"""The ranking loss beside the loop over rank offsets that was released, in time and memory.

python -m bench.memory_ranking SCALE           JSON on standard output
python -m bench.memory_ranking SCALE NAME      bytes at its peak, in a process of its own
"""

import subprocess
import sys
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from bench.memory_case import VOCAB_SIZE, WIDTH, text
from bench.parts import in_turns, ratio, report, start, verdict
from bench.resident import growth
from wideneck.memory import positives, ranking_loss, similarities, visible_history
from wideneck.memory.ranks import Ranks

BATCH, LENGTH, MARGIN = 4, 512, 1e-3
SLOW = "loop over offsets"
ROUNDS = {"pair_mean": 15, "offset_mean": 9, SLOW: 3}


class Setting:
    """Random states of one batch, and what ranks them."""

    def __init__(self, batch: int, length: int):
        torch.manual_seed(1)
        self.ids = text(batch, length)
        states = torch.randn(batch, length, WIDTH)
        self.s = similarities(states, states[:, :-1]).requires_grad_()
        self.embedding = torch.randn(VOCAB_SIZE, WIDTH)
        self.visible = visible_history(torch.ones_like(self.ids, dtype=torch.bool))
        self.target = self.ids.roll(-1, 1)
        self.target[:, -1] = -100

    def run(self, name: str) -> Callable[[], Tensor]:
        """The loss and its gradient, from the similarities on."""

        def step() -> Tensor:
            self.s.grad = None
            given = (self.s, self.visible, self.ids[:, 1:], self.target, self.embedding)
            if name == SLOW:
                loss = loop(*given)
            else:
                loss = ranking_loss(*given, margin=MARGIN, reduction=name).loss
            loss.backward()
            return loss.detach()

        return step


def loop(s: Tensor, visible: Tensor, values: Tensor, target: Tensor, embedding: Tensor) -> Tensor:
    """The mean over offsets of the mean over pairs, by one pass of (B, T, T) for every offset."""
    B, Q, M = s.shape
    every = torch.ones_like(target, dtype=torch.bool).nonzero(as_tuple=True)
    ranks = Ranks(values, target.clamp(min=0), every, embedding, visible)
    rank = ranks.of(slice(None)).view(B, Q, M)
    order = rank.argsort(-1)
    good = positives(visible, values, target)
    s, good, bad = (x.gather(-1, order) for x in (s, good, visible & ~good))
    means = []
    for k in range(1, M):
        pair = good[..., :-k] & bad[..., k:]
        if pair.any():
            above = (s[..., k:] - s[..., :-k] + k * MARGIN).clamp(min=0)
            means.append((above * pair).sum() / pair.sum())
    return torch.stack(means).mean()


def peak(name: str, scale: float) -> int:
    """Bytes that loss and gradient add to a process that holds the similarities."""
    Setting(1, 32).run(name)()
    setting = Setting(BATCH, round(LENGTH * scale))
    return growth(setting.run(name))


def main() -> None:
    scale = start()
    if len(sys.argv) > 2:
        print(peak(sys.argv[2], scale))
        return
    setting = Setting(BATCH, round(LENGTH * scale))
    good = positives(setting.visible, setting.ids[:, 1:], setting.target)
    share = good.any(-1).double().mean()
    found = {name: setting.run(name)() for name in ROUNDS}
    assert torch.isclose(found["offset_mean"], found[SLOW], rtol=1e-4)
    times = in_turns({name: setting.run(name) for name in ROUNDS}, ROUNDS, warm=False)
    peaks = {}
    for name in ROUNDS:
        command = [sys.executable, "-m", "bench.memory_ranking", str(scale), name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        peaks[name] = int(done.stdout)
    rows = [
        [
            name,
            str(len(times[name])),
            f"{min(times[name]):.3f}",
            f"{median(times[name]):.3f}",
            f"{ratio(times[SLOW], times[name]):,.0f}",
            f"{peaks[name] / 1e6:,.0f}",
            f"{peaks[SLOW] / peaks[name]:.1f}",
        ]
        for name in ROUNDS
    ]
    report(
        f"batch {BATCH}, length {setting.ids.shape[1]}; from the similarities on to the gradient; "
        f"{share:.0%} of the targets stand in their memory.",
        ("", "rounds", "min s", "median s", "times faster", "peak MB", "times smaller"),
        rows,
        [
            verdict(
                "pair_mean: times faster", ratio(times[SLOW], times["pair_mean"]), 50, least=True
            ),
            verdict("pair_mean: times smaller", peaks[SLOW] / peaks["pair_mean"], 10, least=True),
        ],
    )


if __name__ == "__main__":
    main()
