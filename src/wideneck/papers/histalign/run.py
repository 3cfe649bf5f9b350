"""One objective with one seed, from the words to a `Run`."""

import time
from collections.abc import Callable

from wideneck.errors import WideneckError
from wideneck.memory.ambiguous import Analogies
from wideneck.papers.histalign.evaluation import evaluate
from wideneck.papers.histalign.objectives import OBJECTIVES
from wideneck.papers.histalign.results import Run
from wideneck.papers.histalign.settings import Settings
from wideneck.papers.histalign.start import check_length, start
from wideneck.papers.histalign.task import make_task
from wideneck.papers.histalign.training import steps, train
from wideneck.report.provenance import versions


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
