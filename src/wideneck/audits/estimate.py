"""A mean with an interval over documents.

Tokens of one document share its subject, so an interval over tokens is too narrow.  The mean is
the ratio sum(values) / count(values), over all tokens or over those that count.  Documents differ
in length, so its interval is that of `unequal_groups`: it takes the documents as independent, and
asks nothing of the tokens within one.  Of a single document the windows are taken as independent,
which neighbouring ones are not quite.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.unequal_groups import effective_number, half_width


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over tokens and how far other text of the same kind might move it."""

    value: float = measure("mean over tokens")
    low: float | None = measure(
        "lower end of the 95 % interval; none from a single group, or from groups too unequal for "
        "one that holds in 93 to 97 %",
        caution="skewed documents make it too short; windows of one document say nothing of others",
    )
    high: float | None = measure("upper end of the 95 % interval")
    over: str = measure(
        "what the interval is taken over: documents, or windows where all of them come from one"
    )
    num_groups: int = measure("number of documents (or windows) that the mean is over")
    effective_groups: float = measure(
        "documents of one length whose mean would be as sure: (sum of n)^2 / (sum of n^2), n the "
        "tokens of each that the mean is over"
    )

    @property
    def half(self) -> float | None:
        """Half of the interval's width; None without one."""
        return None if self.high is None else self.high - self.value

    def map(self, function) -> "Estimate":
        """The same estimate on another scale; `function` must be increasing."""
        return replace(
            self,
            value=function(self.value),
            low=None if self.low is None else function(self.low),
            high=None if self.high is None else function(self.high),
        )


def estimate(values: Tensor, document: Tensor, counted: Tensor | None = None) -> Estimate:
    """The mean of `values` (W, T), windows of T tokens, with `document` (W,) their documents.

    Args:
        counted: (W, T), True for the tokens that the mean is over, at least one; None for all.
    """
    values = values.cpu()  # a few numbers, from wherever they were computed
    if counted is None:
        counted = torch.ones_like(values, dtype=torch.bool)
    sums = torch.where(counted, values, 0).double().sum(1)
    return ratio(sums, counted.double().sum(1), document)


def ratio(sums: Tensor, sizes: Tensor, document: Tensor) -> Estimate:
    """sum(sums) / sum(sizes) over windows, such as bits over bytes, with its interval.

    Args:
        sums: (W,), what is measured of each window.
        sizes: (W,), what it is measured by; a window of none changes nothing.
        document: (W,).
    """
    over = "documents"
    groups = document
    if len(document.unique()) == 1:
        over, groups = "windows", torch.arange(len(document))
    _, index = groups.unique(return_inverse=True)
    of_group = torch.zeros(2, int(index.max()) + 1, dtype=torch.float64)
    of_group.index_add_(1, index, torch.stack([sums.double(), sizes.double()]))
    total, count = of_group
    mean = (total.sum() / count.sum()).item()
    half = half_width(total.numpy(), count.numpy())
    return Estimate(
        value=mean,
        low=None if half is None else mean - float(half),
        high=None if half is None else mean + float(half),
        over=over,
        num_groups=int((count > 0).sum()),
        effective_groups=effective_number(count.numpy()),
    )
