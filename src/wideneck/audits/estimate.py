"""A mean with an interval over documents.

Tokens of one document share its subject, so an interval over tokens is too narrow.  The mean is
the ratio sum(values) / count(values), over all tokens or over those that count; its interval is the
linearized ratio estimator's, with Student's t over the groups (Cochran, Sampling Techniques, 3rd
ed., section 6.4).
"""

from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

from wideneck.audits.measure import measure


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over tokens and how far other text of the same kind might move it."""

    value: float = measure("mean over tokens")
    low: float | None = measure("lower end of the 95 % interval; none from a single group")
    high: float | None = measure("upper end of the 95 % interval")
    over: str = measure(
        "what the interval is taken over: documents, or windows where all of them come from one"
    )
    num_groups: int = measure("number of documents (or windows)")

    def map(self, function) -> "Estimate":
        """The same estimate on another scale; `function` must be increasing."""
        low = None if self.low is None else function(self.low)
        high = None if self.high is None else function(self.high)
        return Estimate(
            value=function(self.value),
            low=low,
            high=high,
            over=self.over,
            num_groups=self.num_groups,
        )


def estimate(values: Tensor, document: Tensor, counted: Tensor | None = None) -> Estimate:
    """The mean of `values` (W, T), windows of T tokens, with `document` (W,) their documents.

    Args:
        counted: (W, T), True for the tokens that the mean is over, at least one; None for all.
    """
    if counted is None:
        counted = torch.ones_like(values, dtype=torch.bool)
    totals = torch.where(counted, values, 0).double().sum(1)
    over = "documents"
    groups = document
    if len(document.unique()) == 1:
        over, groups = "windows", torch.arange(len(document))
    _, index = groups.unique(return_inverse=True)
    num_groups = int(index.max()) + 1
    sums = totals.new_zeros(num_groups).index_add_(0, index, totals)
    counts = totals.new_zeros(num_groups).index_add_(0, index, counted.double().sum(1))
    mean = sums.sum() / counts.sum()
    low = high = None
    if num_groups > 1:
        residual = sums - mean * counts
        variance = residual.square().sum() * num_groups / (num_groups - 1) / counts.sum() ** 2
        half = float(stdtrit(num_groups - 1, 0.975)) * variance.sqrt().item()
        low, high = mean.item() - half, mean.item() + half
    return Estimate(value=mean.item(), low=low, high=high, over=over, num_groups=num_groups)
