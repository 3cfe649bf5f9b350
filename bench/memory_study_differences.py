"""What is compared of two arms of the memory study."""

from collections.abc import Callable

from bench import studies
from bench.studies import ByArm, Line

Which = tuple[str, str]
"""An arm, and how its memory is used."""
Values = Callable[[Line, Which], list[float]]
"""Of a run, one number a text."""

COMPARED: list[tuple[Which, Which]] = [
    (("plain", "fitted"), ("plain", "model")),
    (("TRIME", "full"), ("plain", "model")),
    (("HistAlign", "full"), ("plain", "model")),
    (("TRIME", "full"), ("plain", "fitted")),
    (("HistAlign", "full"), ("plain", "fitted")),
    (("HistAlign", "full"), ("TRIME", "full")),
    (("TRIME", "model"), ("plain", "model")),
    (("HistAlign", "model"), ("plain", "model")),
]
"""Continuations."""


def difference(
    by_arm: ByArm, ours: Which, theirs: Which, values: Values, *, documents: bool = False
) -> tuple[list[float], float, float] | None:
    """See `bench.studies.difference`.

    Args:
        documents: texts are the test windows, some of which may be of one document.
    """
    found = studies.difference(
        by_arm.get(ours[0], {}),
        by_arm.get(theirs[0], {}),
        lambda line: values(line, theirs),
        lambda line: values(line, ours),
        (lambda line: line["documents"]) if documents else None,
    )
    if found is None:
        return None
    by_seed, low, high = found
    assert low is not None
    assert high is not None
    return by_seed, low, high


def of_measure(name: str, times: float) -> Values:
    """Of every continuation; the coherence measures minus what other prompts give."""

    def values(line: Line, which: Which) -> list[float]:
        found = line["continued"][which[1]]["measures"]
        own, other = found[name], found.get(f"{name} mismatched")
        if other is not None:
            own = [one - another for one, another in zip(own, other, strict=True)]
        return [times * value for value in own]

    return values


def needed(num_texts: int, low: float, high: float) -> str:
    """Texts at which the interval of a difference of this size would leave out 0."""
    mean, half = (low + high) / 2, (high - low) / 2
    if not mean:
        return "no number"
    return f"{max(1, round(num_texts * (half / mean) ** 2)):,}"
