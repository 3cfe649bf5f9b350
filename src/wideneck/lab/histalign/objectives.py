"""The six losses that are compared.  Imports no torch.

All see the memory of Eq. 3 of Wan et al. 2023 as printed: raw scores, no temperature, no bias.  The
ranking loss is reduced and ranked as released for GPT-2: the second half of Eq. 5 is DERIVED,
rebuilt by us from the released code, as the display was not at hand whole, and no statement of the
paper is judged by it.

Each of three likelihoods comes without and with the ranking loss: the model's own cross-entropy
(Eq. 6 as printed), TRIME as released and TRIME corrected.  The released code takes the tokens of
the memories from the labels, where every token of a prompt is ignored: no memory holds the
target, and TRIME only learns to keep the memory's probability small.  The correction takes them
from the input.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One row of the table."""

    title: str
    memory: dict[str, Any]
    """Fields of `wideneck.Memory` beside those of `COMMON`."""
    over: str | None = None
    """Of a row with the ranking loss: the objective that it adds to."""
    method: str | None = None
    """What the paper calls its row of this kind; None where it has none."""


COMMON = {"margin": 1e-3, "reduction": "offset_mean", "rank_over": "all"}
"""Shared by all: lambda and the reduction of the paper's runs of GPT-2."""

ADDED = "+ HistAlign"

OBJECTIVES: dict[str, Objective] = {
    "cross_entropy": Objective(
        title="cross-entropy",
        memory={"loss": "cross_entropy", "alpha": 0.0},
        method="fine-tuned",
    ),
    "cross_entropy_histalign": Objective(
        title=ADDED, memory={"loss": "cross_entropy", "alpha": 1.0}, over="cross_entropy"
    ),
    "trime_released": Objective(
        title="TRIME as released", memory={"values": "labels", "alpha": 0.0}, method="TRIME"
    ),
    "trime_released_histalign": Objective(
        title=ADDED,
        memory={"values": "labels", "alpha": 1.0},
        over="trime_released",
        method="HistAlign",
    ),
    "trime": Objective(title="TRIME corrected", memory={"alpha": 0.0}),
    "trime_histalign": Objective(title=ADDED, memory={"alpha": 1.0}, over="trime"),
}
"""Every objective, in the order of the table."""
