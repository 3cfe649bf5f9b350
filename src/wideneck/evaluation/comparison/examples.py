"""Where two models differ most, with both predictions."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from wideneck.data import Windows
from wideneck.evaluation.comparison.distributions import OfOne
from wideneck.evaluation.comparison.results import Example

SHOWN = 8
"""Examples in each direction."""
BEFORE = 24
"""Tokens of the context that are shown."""

Decode = Callable[[Sequence[int]], str]


def examples(
    first: OfOne, other: OfOne, windows: Windows, decode: Decode, *, gains: bool
) -> list[Example]:
    """Predictions on which `other` gains most over `first`, or loses most; each target once."""
    change = (first.nll - other.nll) * (1 if gains else -1)
    return [
        _example(i, first, other, windows, decode)
        for i in _places(change, windows.targets.flatten())
    ]


def _places(change: Tensor, targets: Tensor) -> Iterator[int]:
    seen: set[int] = set()
    for i in change.argsort(descending=True, stable=True).tolist():
        if len(seen) == SHOWN or not change[i] > 0:
            return
        if targets[i].item() not in seen:
            seen.add(int(targets[i]))
            yield i


def _example(i: int, first: OfOne, other: OfOne, windows: Windows, decode: Decode) -> Example:
    row, place = divmod(i, windows.targets.shape[1])
    stop = windows.ids.shape[1] - windows.targets.shape[1] + place + 1
    return Example(
        before=decode(windows.ids[row, max(0, stop - BEFORE) : stop].tolist()),
        target=decode([int(windows.targets[row, place])]),
        first=(-first.nll[i]).exp().item(),
        other=(-other.nll[i]).exp().item(),
        first_says=decode([int(first.top[i])]),
        other_says=decode([int(other.top[i])]),
    )
