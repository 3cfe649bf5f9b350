"""Heads of every rank over seeds: what the cut loses, and what training gives back.

All differences are between heads on the same held-out windows, so a window that is hard for both
moves none of them; intervals are over documents (windows, where all come from one).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.measure import measure
from wideneck.audits.output.rank_cost import RankLoss
from wideneck.lab.saturation.heads_run import HeadRun
from wideneck.lab.saturation.truncated import Truncated
from wideneck.lab.spread import Spread, spread

STARTS = {"whitened": "r = {}", "random": "random {}", "own": "softmax"}
"""In the order of the table, and how it calls a head of a rank."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Heads of one rank and start over their seeds."""

    rank: int = measure("rank r of the output matrix")
    share: float = measure("r / d")
    start: str = measure("own: a softmax from the model's output layer; whitened; random")
    learning_rate: float = measure(
        "the highest, after the warmup",
        caution="from the model's own output layer or its whitened truncation, a power of r chosen "
        "on seed 0 of the default model, which is one of the seeds of the small scale",
    )
    num_seeds: int = measure("seeds")
    w_error: float = measure("W-error(r) of the model's own output layer")
    w_error_centred: float = measure("the same with the mean row taken off")
    first: Estimate = measure("loss before training", unit="nats per token")
    first_gap: Estimate = measure("that less the untouched output layer's", unit="nats per token")
    trained: Estimate = measure("loss after training, mean over seeds", unit="nats per token")
    trained_gap: Estimate = measure(
        "that less the untouched output layer's",
        unit="nats per token",
        caution="training moves a head to this text too, so the gap can be below 0",
    )
    full_gap: Estimate = measure(
        "that less the trained softmax's, of rank d",
        unit="nats per token",
        caution="heads of all ranks are trained for the same few tokens; how much of the gap more "
        "training would close, the slope only hints at",
    )
    over_seeds: Spread = measure("full_gap over seeds")
    slope: float = measure(
        "held-out loss at the end less that after 90 % of the steps, mean over seeds", unit="nats"
    )
    plain: RankLoss | None = measure("the audit's figures of the plain truncation; none at r = d")
    whitened: RankLoss | None = measure("the same of the whitened truncation")

    @property
    def name(self) -> str:
        """As the table has it."""
        return STARTS[self.start].format(self.rank)


def head_arms(runs: Sequence[HeadRun], cut: Truncated) -> list[Arm]:
    """Each rank and start, rising; the softmax last.

    Args:
        runs: all arms with the same seeds, the softmax ("own") among them.
        cut: of the same model and windows.
    """
    full = {run.seed: _windows(run.last) for run in runs if run.start == "own"}
    untouched = _windows(next(run.first for run in runs if run.start == "own"))
    document = torch.tensor(cut.document)
    points = {(point.method, point.rank): point for point in cut.cost.points}
    found = []
    ranks = {start: sorted({r.rank for r in runs if r.start == start}) for start in STARTS}
    for start, rank in [(name, rank) for name in STARTS for rank in ranks[name]]:
        some = [run for run in runs if (run.start, run.rank) == (start, rank)]
        first = torch.stack([_windows(run.first) for run in some]).mean(0)
        last = torch.stack([_windows(run.last) for run in some]).mean(0)
        gaps = [_windows(run.last) - full[run.seed] for run in some]
        place = cut.ranks.index(rank)
        found.append(
            Arm(
                rank=rank,
                share=rank / cut.hidden_size,
                start=start,
                learning_rate=some[0].learning_rate,
                num_seeds=len(some),
                w_error=cut.w_error[place],
                w_error_centred=cut.w_error_centred[place],
                first=estimate(first[:, None], document),
                first_gap=estimate((first - untouched)[:, None], document),
                trained=estimate(last[:, None], document),
                trained_gap=estimate((last - untouched)[:, None], document),
                full_gap=estimate(torch.stack(gaps).mean(0)[:, None], document),
                over_seeds=spread([gap.mean().item() for gap in gaps]),
                slope=fmean(fmean(run.last) - fmean(run.nearly_last) for run in some),
                plain=points.get(("plain", rank)),
                whitened=points.get(("whitened", rank)),
            )
        )
    return found


def _windows(losses: list[float]) -> Tensor:
    return torch.tensor(losses, dtype=torch.float64)
