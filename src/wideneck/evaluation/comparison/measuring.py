"""From the tokens of two models to the numbers of a comparison.

Shapes: W windows of T predictions, N = W T.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.data import Windows
from wideneck.evaluation.comparison.distributions import OfOne
from wideneck.evaluation.comparison.groups import Kind
from wideneck.evaluation.comparison.over_models import BOTH
from wideneck.evaluation.comparison.results import Bin, Calibration, LogNormalizer, OfKind

BINS = 10
QUANTILE = 1.959964
"""Of a normal distribution, at 97.5 %."""


def by_kind(kinds: Sequence[Kind], first: Tensor, other: Tensor, document: Tensor) -> list[OfKind]:
    """The difference of two losses (W, T) on each kind of token."""
    return [
        OfKind(
            sort=kind.of,
            name=kind.name,
            num_tokens=int(kind.members.sum()),
            first=first[kind.members].double().mean().item(),
            other=other[kind.members].double().mean().item(),
            difference=estimate(other.double() - first.double(), document, kind.members),
        )
        for kind in kinds
    ]


def groups_to_see(found: Estimate) -> int | None:
    """Documents (or windows) whose interval would leave out 0; None without a difference.

    Half an interval falls as 1 / sqrt(n), and the mean must lie `BOTH` standard errors off 0.
    """
    if found.half is None or not found.value:
        return None
    off = BOTH / QUANTILE * found.half / abs(found.value)
    return max(2, math.ceil(found.num_groups * off**2))


def calibration(found: OfOne, targets: Tensor) -> Calibration:
    """Tenths of the predictions by confidence, or as many as there are predictions."""
    order = found.confidence.argsort(stable=True)
    right = (found.top == targets)[order].double()
    parts = list(
        zip(
            found.confidence[order].double().tensor_split(min(BINS, len(order))),
            right.tensor_split(min(BINS, len(order))),
            strict=True,
        )
    )
    bins = [Bin(confidence=c.mean().item(), accuracy=r.mean().item()) for c, r in parts]
    off = sum(len(c) * abs((c.mean() - r.mean()).item()) for c, r in parts)
    return Calibration(error=off / len(order), bins=bins)


def log_normalizer(found: OfOne) -> LogNormalizer | None:
    """Mean and spread; None of a mixture."""
    values = found.log_normalizer.double()
    if values.isnan().all():
        return None
    sd = values.std(correction=0).item()
    return LogNormalizer(mean=values.mean().item(), sd=sd)


def per_byte(nats: Tensor, windows: Windows) -> Estimate:
    """Bits per byte of losses (W, T), with the interval of the loss."""
    scale = nats.numel() / windows.num_bytes.sum().item() / math.log(2)
    return estimate(nats, windows.document).map(lambda x: x * scale)
