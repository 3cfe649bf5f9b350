"""Two groups of models on one text: a difference with an interval over models (Welch's t).

Seeds of two recipes are not paired: a seed draws other numbers in a model of another shape.

Shapes: M models, W windows of T predictions.
"""

import math
import statistics
from collections.abc import Sequence

import torch
from scipy.special import stdtrit
from torch import Tensor

from wideneck.evaluation.comparison.beside import BOTH
from wideneck.evaluation.comparison.kinds import Kind
from wideneck.evaluation.comparison.results import GroupDifference, OverSeeds


def over_groups(
    losses: Sequence[Tensor], sizes: dict[str, int], kinds: Sequence[Kind]
) -> list[GroupDifference]:
    """Each group but the first beside the first, over all tokens and over each kind.

    Args:
        losses: (W, T) of each model, group by group.
        sizes: how many models each group has, by its name.
        kinds: of tokens.
    """
    (_, first), *others = zip(
        sizes, torch.stack([loss.double() for loss in losses]).split([*sizes.values()]), strict=True
    )
    masks = [("all", torch.ones_like(losses[0], dtype=torch.bool))]
    masks += [(f"{kind.sort}: {kind.name}", kind.members) for kind in kinds]
    return [
        GroupDifference(
            group=name,
            num_models=len(group),
            rows=[
                over_models(tokens, _means(first, mask), _means(group, mask))
                for tokens, mask in masks
            ],
        )
        for name, group in others
    ]


def over_models(name: str, first: Sequence[float], other: Sequence[float]) -> OverSeeds:
    """Compare the mean losses of models.

    Args:
        name: the tokens that they are over.
        first, other: one for each model.
    """
    means = statistics.fmean(first), statistics.fmean(other)
    difference = means[1] - means[0]
    half = more = None
    if len(first) > 1 and len(other) > 1:
        parts = [statistics.variance(group) / len(group) for group in (first, other)]
        half = _half(parts, [len(first), len(other)])
        if difference:
            spread = sum(statistics.variance(group) for group in (first, other))
            more = max(2, math.ceil(spread * (BOTH / difference) ** 2))
    return OverSeeds(
        name=name,
        first=means[0],
        other=means[1],
        difference=difference,
        low=None if half is None else difference - half,
        high=None if half is None else difference + half,
        models_to_see=more,
    )


def _half(parts: Sequence[float], sizes: Sequence[int]) -> float:
    """Half of Welch's interval, from the variances of two means."""
    variance = sum(parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(v**2 / (n - 1) for v, n in zip(parts, sizes, strict=True))
    return float(stdtrit(freedom, 0.975)) * math.sqrt(variance)


def _means(losses: Tensor, mask: Tensor) -> list[float]:
    """Of each model's losses (M, W, T), the mean over some of the predictions."""
    return losses[:, mask].mean(1).tolist()
