"""Differences between two arms of the memory study, over seeds and over texts."""

import statistics
from collections.abc import Callable

Lines = dict[str, dict[int, dict]]
"""Runs by arm and seed."""
Which = tuple[str, str]
"""An arm, and how its memory is used."""
Values = Callable[[dict, Which], list[float]]
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
    by_arm: Lines, ours: Which, theirs: Which, values: Values, *, documents: bool = False
) -> tuple[list[float], float, float] | None:
    """The mean difference of each seed, and a 95 % interval over texts of its mean over seeds.

    Runs of one seed are paired, and so are their texts.

    Args:
        documents: texts are the test windows, some of which may be of one document.
    """
    import torch

    from wideneck.audits.estimate import estimate

    seeds = sorted(by_arm.get(ours[0], {}).keys() & by_arm.get(theirs[0], {}).keys())
    if not seeds:
        return None
    rows = []
    for seed in seeds:
        pair = zip(
            values(by_arm[ours[0]][seed], ours),
            values(by_arm[theirs[0]][seed], theirs),
            strict=True,
        )
        rows.append([one - other for one, other in pair])
    by_text = torch.tensor(rows, dtype=torch.double).mean(0)
    groups = torch.arange(len(by_text))
    if documents:
        groups = torch.tensor(by_arm[ours[0]][seeds[0]]["documents"])
    found = estimate(by_text[:, None], groups)
    assert found.low is not None
    assert found.high is not None
    return [statistics.mean(row) for row in rows], found.low, found.high


def of_measure(name: str, times: float) -> Values:
    """Of every continuation; the coherence measures minus what other prompts give."""

    def values(line: dict, which: Which) -> list[float]:
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
