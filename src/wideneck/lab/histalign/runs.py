"""Every objective with every seed, from the words to a `Run` each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab import jobs
from wideneck.lab.ambiguous.words import Analogies, read_analogies
from wideneck.lab.histalign.evaluation import evaluate
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.histalign.results import Run
from wideneck.lab.histalign.settings import Settings
from wideneck.lab.histalign.start import check_length, start
from wideneck.lab.histalign.task import make_task
from wideneck.lab.histalign.training import steps, train
from wideneck.lab.side_by_side import Show
from wideneck.report.provenance import versions


@final
@dataclass(frozen=True)
class Job:
    """What a process is given: the words by their file, which is shorter than they are."""

    settings: Settings
    words: Path | None
    objective: str
    seed: int

    @property
    def name(self) -> str:
        """Of the finished run."""
        return f"{self.objective}-seed{self.seed}"


def all_runs(
    settings: Settings, words: Path | None, seeds: Sequence[int], store: Store, progress: Progress
) -> list[Run]:
    """Every objective with every seed, seed by seed, read from the store or made."""
    return jobs.all_runs(
        _work,
        [Job(settings, words, objective, seed) for seed in seeds for objective in OBJECTIVES],
        Run,
        store,
        progress,
        processes=None if settings.model is None else 1,  # a loaded model fills a machine
    )


def _work(job: Job, show: Show) -> Run:
    return run(job.settings, read_analogies(job.words), job.objective, job.seed, show)


def run(
    settings: Settings,
    analogies: Analogies,
    objective: str,
    seed: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Run:
    """Train and measure.

    Args:
        settings: what all runs share.
        analogies: the words.
        objective: a name of `OBJECTIVES`.
        seed: of everything that is drawn.
        progress: called with the share of the training that is done.
    """
    began, began_cpu, recipe = time.perf_counter(), time.process_time(), settings.recipe
    model, encoding = start(settings, OBJECTIVES[objective], analogies, seed)
    task = make_task(analogies, encoding, settings.split, seed, recipe.num_test_prompts)
    check_length(model, task.longest)
    try:
        train(model, task.rows, recipe, seed, progress)
    except WideneckError as error:
        raise WideneckError(f"{objective}, seed {seed}: {error}") from None
    measured = evaluate(model, task, recipe.num_rank_rows)
    head = model.get_output_embeddings()
    return Run(
        objective=objective,
        seed=seed,
        num_prompts=len(task.prompts),
        **vars(measured),
        rank_bound=head.rank_bound,
        vocab_size=head.vocab_size,
        num_steps=steps(recipe, len(task.rows)),
        seconds=round(time.perf_counter() - began, 1),
        cpu_seconds=round(time.process_time() - began_cpu, 1),
        versions=versions(),
    )
