"""Heads over their seeds, each beside the softmax of equal seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from wideneck.audits.measure import measure
from wideneck.lab.sigsoftmax.one_run import Run
from wideneck.lab.spread import Paired, Spread, over_seeds, paired

SHARED = ("seed", "rank_bound", "num_contexts", "epochs", "tokens")
FIGURES = [
    field.name for field in fields(Run) if field.type in (int, float) and field.name not in SHARED
]
"""Every number of a run but those that are set before it."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One head over its seeds."""

    name: str = measure("the head")
    figures: dict[str, Spread] = measure("each figure of its runs")
    against_softmax: Paired | None = measure(
        "test loss minus that of the softmax, seed by seed, nats a token; none for the softmax"
    )


def over_softmax(names: Iterable[str], runs: Sequence[Run]) -> list[Arm]:
    """The arms of these names, all with the same seeds, the softmax among them."""
    by_arm = {name: [run for run in runs if run.arm == name] for name in names}
    softmax = {run.seed: run.test_loss for run in by_arm["softmax"]}
    return [
        Arm(
            name=name,
            figures=over_seeds([{f: float(getattr(run, f)) for f in FIGURES} for run in some]),
            against_softmax=None
            if name == "softmax"
            else paired([run.test_loss - softmax[run.seed] for run in some]),
        )
        for name, some in by_arm.items()
    ]
