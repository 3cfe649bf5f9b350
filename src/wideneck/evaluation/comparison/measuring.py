"""From the tokens of models to the numbers of each by itself.

Shapes: W windows of T predictions, N = W T, D hidden size.
"""

import math

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate, ratio
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.data import Windows
from wideneck.evaluation.comparison.distributions import OfOne
from wideneck.evaluation.comparison.reading import Read
from wideneck.evaluation.comparison.results import Bin, Calibration, LogNormalizer, OneModel

BINS = 10
CONTEXTS = 512
"""Whose log-probabilities the rank is of."""


def one_model(read: Read, one: OfOne | None, loss: Tensor, windows: Windows) -> OneModel:
    """A model by itself; its losses alone where it has no distributions."""
    targets = windows.targets.flatten()
    rank, num_contexts = _effective_rank(read)
    return OneModel(
        model=read.about.name,
        head=read.about.kind,
        num_parameters=read.about.num_parameters,
        loss=estimate(loss, windows.document),
        bits_per_byte=per_byte(loss, windows),
        top1=None if one is None else share(one.top == targets, windows),
        median_rank=None if one is None else float(one.rank.double().quantile(0.5)),
        calibration=None if one is None else calibration(one.confidence, one.top == targets),
        log_normalizer=None if one is None else log_normalizer(one.log_normalizer),
        effective_rank=rank,
        rank_contexts=num_contexts,
    )


def calibration(confidence: Tensor, right: Tensor) -> Calibration:
    """Tenths of the predictions by confidence, or as many as there are predictions.

    Args:
        confidence: (N,), the probability of the most probable token.
        right: (N,) bool, whether it is the target.
    """
    order = confidence.argsort(stable=True)
    num_bins = min(BINS, len(order))
    sorted_ = confidence[order].double(), right[order].double()
    parts = list(zip(*(values.tensor_split(num_bins) for values in sorted_), strict=True))
    bins = [
        Bin(num_tokens=len(c), confidence=c.mean().item(), accuracy=r.mean().item())
        for c, r in parts
    ]
    off = sum(one.num_tokens * abs(one.confidence - one.accuracy) for one in bins)
    return Calibration(error=off / len(order), bins=bins)


def log_normalizer(values: Tensor) -> LogNormalizer | None:
    """Mean and spread of (N,); None of a mixture."""
    if values.isnan().all():
        return None
    wide = values.double()
    return LogNormalizer(mean=wide.mean().item(), sd=wide.std(correction=0).item())


def per_byte(nats: Tensor, windows: Windows) -> Estimate:
    """Bits per byte of losses (W, T), or of their differences."""
    return ratio(nats.double().sum(1) / math.log(2), windows.num_bytes, windows.document)


def share(hits: Tensor, windows: Windows) -> Estimate:
    """Of (N,) bool."""
    return estimate(hits.view_as(windows.targets).double(), windows.document)


def _effective_rank(read: Read) -> tuple[int | None, int | None]:
    """The rank, and the contexts at equal distances that it is over."""
    if read.head is None or read.hidden is None:
        return None, None
    flat = read.hidden.flatten(0, 1)
    places = torch.linspace(0, len(flat) - 1, min(CONTEXTS, len(flat)), dtype=torch.float64)
    contexts = flat[places.round().long()].to(read.head.weight)
    found = log_prob_ranks(read.head, contexts, num_contexts=len(contexts))
    return found.effective_1e4, found.num_contexts
