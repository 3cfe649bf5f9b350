"""The ranking loss beside the loop over rank offsets that was released, in time and memory."""

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from bench.memory import VOCAB_SIZE, WIDTH, text
from bench.parts import from_child, in_turns, ratio, report, verdict
from bench.resident import growth
from wideneck.memory import positives, ranking_loss, similarities, visible_history
from wideneck.memory.ranks import Ranks

BATCH, LENGTH, MARGIN = 4, 512, 1e-3
SLOW = "loop over offsets"
ROUNDS = {"pair_mean": 15, "offset_mean": 9, SLOW: 3}
LENGTHS = (256, 512, 1024, 2048)


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
    return growth(Setting(BATCH, round(LENGTH * scale)).run(name))


def ranking(scale: float) -> None:
    """Every reduction beside the loop."""
    setting = Setting(BATCH, round(LENGTH * scale))
    good = positives(setting.visible, setting.ids[:, 1:], setting.target)
    share = good.any(-1).double().mean()
    runs = {name: setting.run(name) for name in ROUNDS}
    found = {name: run() for name, run in runs.items()}
    assert torch.isclose(found["offset_mean"], found[SLOW], rtol=1e-4)
    times = in_turns(runs, ROUNDS, warm=False)
    peaks = {name: from_child("memory_ranking.peak", name, scale) for name in ROUNDS}
    rows = [
        [
            name,
            str(len(own)),
            f"{min(own):.3f}",
            f"{median(own):.3f}",
            f"{ratio(times[SLOW], own):,.0f}",
            f"{peaks[name] / 1e6:,.0f}",
            f"{peaks[SLOW] / peaks[name]:.1f}",
        ]
        for name, own in times.items()
    ]
    faster, smaller = ratio(times[SLOW], times["pair_mean"]), peaks[SLOW] / peaks["pair_mean"]
    report(
        f"batch {BATCH}, length {setting.ids.shape[1]}; from the similarities on to the gradient; "
        f"{share:.0%} of the targets stand in their memory.",
        ("", "rounds", "min s", "median s", "times faster", "peak MB", "times smaller"),
        rows,
        [
            verdict("pair_mean: times faster", faster, 50, least=True),
            verdict("pair_mean: times smaller", smaller, 10, least=True),
        ],
    )


def lengths(scale: float) -> None:
    """How the loss grows with the length: no faster than T^2 log T."""
    runs = {T: Setting(1, T).run("pair_mean") for T in (round(T * scale) for T in LENGTHS)}
    times = in_turns(runs, dict.fromkeys(runs, 7))
    found = {T: median(own) for T, own in times.items()}
    law = {T: T**2 * math.log(T) for T in found}
    first, *_, last = found
    rows = [[f"{first:,}", f"{found[first]:.4f}", "", ""]]
    for shorter, longer in pairwise(found):
        grown = [f"{values[longer] / values[shorter]:.2f}" for values in (found, law)]
        rows.append([f"{longer:,}", f"{found[longer]:.4f}", *grown])
    grown, limit = (values[last] / values[first] for values in (found, law))
    report(
        "pair_mean, batch 1; loss and gradient, from the similarities on.",
        ("length", "median s", "grown by", "T^2 log T"),
        rows,
        [verdict(f"{first:,} to {last:,}: growth", grown, limit)],
    )
