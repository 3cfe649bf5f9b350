"""One objective with one seed: trained, then measured."""

import time
from dataclasses import dataclass

from wideneck.audits.measure import measure
from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import make_task
from wideneck.lab.ambiguous.words import Analogies
from wideneck.lab.histalign.evaluation import evaluate
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.histalign.training import Recipe, start, steps, train
from wideneck.lab.jobs import Show
from wideneck.models.positions import max_positions
from wideneck.report.provenance import versions


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share to stand in one table; the seeds are not among it."""

    scale: str
    model: str | None
    """Id or folder of a causal language model of Hugging Face; None: from scratch."""
    split: str
    recipe: Recipe
    words_sha256: str = ""
    """The hash of the analogies, once they are read."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One objective with one seed, on the test prompts."""

    objective: str = measure("name of the objective")
    seed: int = measure("decides the split, the model's start, the order of rows and the test draw")
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


def run(
    settings: Settings,
    analogies: Analogies,
    objective: str,
    seed: int,
    show: Show = lambda share: None,
) -> Run:
    """Train by one of `OBJECTIVES` and measure; the seed decides everything that is drawn.

    Raises:
        WideneckError: the model has too few positions, or a loss is not finite.
    """
    began, began_cpu, recipe = time.perf_counter(), time.process_time(), settings.recipe
    model, encoding = start(settings.model, recipe, OBJECTIVES[objective], analogies, seed)
    task = make_task(analogies, encoding, settings.split, seed, recipe.num_test_prompts)
    longest = max(map(len, [*(row.ids for row in task.rows), *task.prompts]))
    positions = max_positions(model)
    if positions is not None and positions < longest:
        raise WideneckError(
            f"The longest row of the task has {longest} tokens under this tokenizer, and "
            f"{type(model).__name__} has {positions} positions: use another model."
        )
    try:
        train(model, task.rows, recipe, seed, show)
    except WideneckError as error:
        raise WideneckError(f"{objective}, seed {seed}: {error}") from None
    measured = evaluate(model, task, recipe.num_rank_rows)
    head = model.get_output_embeddings()
    return Run(
        objective=objective,
        seed=seed,
        num_prompts=len(task.prompts),
        **measured,
        rank_bound=head.rank_bound,
        vocab_size=head.vocab_size,
        num_steps=steps(recipe, len(task.rows)),
        seconds=round(time.perf_counter() - began, 1),
        cpu_seconds=round(time.process_time() - began_cpu, 1),
        versions=versions(),
    )
