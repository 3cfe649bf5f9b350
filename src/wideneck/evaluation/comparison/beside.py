"""A model beside the first, prediction by prediction.

Shapes: W windows of T predictions, N = W T.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.data import Windows
from wideneck.evaluation.comparison.distributions import Apart, OfOne
from wideneck.evaluation.comparison.examples import Decode, examples
from wideneck.evaluation.comparison.kinds import Kind
from wideneck.evaluation.comparison.measuring import per_byte, share
from wideneck.evaluation.comparison.results import Difference, OfKind

QUANTILE = 1.959964
"""Of a normal distribution, at 97.5 %."""
BOTH = QUANTILE + 0.841621
"""Standard errors by which a mean is off 0 where a test at 5 % sees it in 80 % of repetitions."""


@dataclass(frozen=True)
class Measured:
    """A model on the windows."""

    name: str
    loss: Tensor
    """(W, T) nats."""
    one: OfOne | None
    """None where it predicts from a memory."""


def difference(
    first: Measured,
    other: Measured,
    apart: Apart | None,
    kinds: Sequence[Kind],
    windows: Windows,
    decode: Decode,
) -> Difference:
    """`other` beside `first`; what needs distributions of both is None without."""
    document, change = windows.document, other.loss.double() - first.loss.double()
    loss, a, b = estimate(change, document), first.one, other.one
    both = None if a is None or b is None else (a, b)

    def over(nats: Tensor) -> Estimate:
        return estimate(nats.view_as(change), document)

    return Difference(
        model=other.name,
        loss=loss,
        bits_per_byte=per_byte(change, windows),
        documents_to_see=groups_to_see(loss),
        kl_from_first=None if apart is None else over(apart.forward),
        kl_to_first=None if apart is None else over(apart.backward),
        agreement=both and share(both[0].top == both[1].top, windows),
        kinds=by_kind(kinds, first.loss, other.loss, document),
        better=examples(*both, windows, decode, gains=True) if both else [],
        worse=examples(*both, windows, decode, gains=False) if both else [],
    )


def by_kind(kinds: Sequence[Kind], first: Tensor, other: Tensor, document: Tensor) -> list[OfKind]:
    """The difference of two losses (W, T) on each kind of token."""
    return [
        OfKind(
            sort=kind.sort,
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
