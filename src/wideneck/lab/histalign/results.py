"""What is measured of one trained model, and of an objective over its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wideneck.audits.measure import measure
from wideneck.lab.spread import Spread, spread

PRINTED = ("2", "5", "10", "25")
"""The k of the paper's table; `Run` has all of the released evaluation."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One objective with one seed, on the test prompts."""

    objective: str = measure("name of the objective")
    seed: int = measure("of the split, the model's start, the order of the rows and the test draw")
    num_prompts: int = measure("distinct test prompts")
    full: dict[str, float] = measure(
        "Acc@k by k: prompts with both words among the k most probable of the mixture, Eq. 3",
        unit="%",
        caution="both words are right, so nothing is correct at k = 1",
    )
    model: dict[str, float] = measure("Acc@k of the output layer alone", unit="%")
    cache: dict[str, float] = measure(
        "Acc@k of the memory alone",
        unit="%",
        caution="a memory holds some twenty tokens, so at k = 25 nearly anything is correct",
    )
    memory_share: float = measure("mean part of the mixture's probability that the memory brings")
    loss: float = measure(
        "mean -log p of the first piece of each of the two words, of the mixture",
        unit="nats",
        caution="two equally likely words cost ln 2 = 0.693 at the least",
    )
    loss_model: float = measure("the same of the output layer alone", unit="nats")
    rank: int = measure(
        "numerical rank (Press et al. 2007, epsilon of float32) of the matrix of the mixture's "
        "log-probabilities at all positions of the first test prompts",
        caution="a numerical rank depends on its tolerance and on the number of rows",
    )
    rank_model: int = measure("the same of the output layer alone")
    rank_bound: int = measure("largest rank of the latter: d + 1, never more than V")
    rank_rows: int = measure("rows N of both matrices")
    vocab_size: int = measure("columns V of both")
    num_steps: int = measure("optimizer's steps")
    seconds: float = measure("training and measuring, wall clock", unit="seconds")
    cpu_seconds: float = measure("the same, processor time of the process", unit="seconds")
    versions: dict[str, str] = measure("software")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One objective over its seeds."""

    objective: str = measure("name of the objective")
    figures: dict[str, Spread] = measure(
        'each figure of the runs by name, with a point before k: "full.2", "cache.25", "loss"'
    )


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What the ranking loss adds, seed by seed."""

    objective: str = measure("with the ranking loss")
    over: str = measure("without it")
    figures: dict[str, Spread] = measure(
        "mean and deviation of the differences between runs of equal seed, by name as above"
    )


def summarize(objective: str, runs: Sequence[Run]) -> Summary:
    """Mean and deviation of every figure."""
    all_figures = [figures(run) for run in runs]
    return Summary(
        objective=objective,
        figures={name: spread([found[name] for found in all_figures]) for name in all_figures[0]},
    )


def gap(more: Sequence[Run], less: Sequence[Run]) -> Gap:
    """The differences of two objectives over the same seeds, in the same order."""
    assert [run.seed for run in more] == [run.seed for run in less]
    pairs = [(figures(a), figures(b)) for a, b in zip(more, less, strict=True)]
    return Gap(
        objective=more[0].objective,
        over=less[0].objective,
        figures={name: spread([a[name] - b[name] for a, b in pairs]) for name in pairs[0][0]},
    )


def figures(run: Run) -> dict[str, float]:
    """The numbers of a run that a mean makes sense of, by name."""
    found: dict[str, Any] = {
        f"{view}.{k}": value
        for view in ("full", "model", "cache")
        for k, value in getattr(run, view).items()
    }
    names = ("memory_share", "loss", "loss_model", "rank", "rank_model", "seconds", "cpu_seconds")
    return found | {name: float(getattr(run, name)) for name in names}
