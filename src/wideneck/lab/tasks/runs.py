"""One objective with one seed: trained, then read and made to write in every view."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wideneck.audits.measure import measure
from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.errors import WideneckError
from wideneck.lab.jobs import Show
from wideneck.lab.tasks.measures import mean_known
from wideneck.lab.tasks.seen import fitted
from wideneck.lab.tasks.trial import Measured, Trial
from wideneck.lab.tasks.views import OFF, WRITTEN, memory_of, trained_memory, with_memory
from wideneck.report.provenance import versions

TRAINING = 0.7
"""Share of a run's progress that is training."""

RIGHT = {"full": "accuracy", "model": "accuracy_model_only", "cache": "accuracy_cache_only"}
"""What a memory's own statistics call the share of the targets that come first."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One model with one setting of its memory, on the test documents."""

    temperature: float = measure("divides the similarities")
    bias: float = measure("is added to them; -1e9 is a memory that is off")
    losses: list[float] = measure("mean -log p(target) of each document", unit="nats")
    memory_share: float = measure("mean part of the probability that the memory brings")
    each: dict[str, list[float | None]] = measure(
        "measures of every text that it wrote, by name; none where one has nothing to say"
    )
    whole: dict[str, float] = measure("measures of all texts together, by name")
    texts: list[str] = measure(
        "what it wrote, one for each document and seed of decoding; empty where it was not asked to"
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One objective with one seed."""

    objective: str = measure("name of the objective")
    seed: int = measure("decides the model's start, the order of data and the draws of decoding")
    views: dict[str, View] = measure(
        "the memory off, as trained (full), and with temperature and bias fitted afterwards on "
        "the validation documents (fitted)"
    )
    beside: dict[str, dict[str, float]] = measure(
        "measures of texts that no model wrote, by what they are: the references, and baselines"
    )
    cut: dict[str, int] = measure(
        "by split, sources that are longer than what the model reads of them, and were cut; "
        'behind "targets of", targets that are longer than what it writes, where there are any'
    )
    documents: list[int] = measure("what each of `losses` is from")
    subjects: list[int] = measure("what each of `texts` is about")
    recalled: float = measure("share of the targets that stand in their memory")
    right: dict[str, float] = measure(
        "share of the targets that come first: of the mixture as trained (full), of the output "
        "layer alone (model) and of the memory alone (cache), which never has most of them"
    )
    alignment: float | None = measure(
        "mean reciprocal rank of the target by similarity among the distinct tokens of its memory, "
        "of targets that stand there; after training"
    )
    alignment_before: float | None = measure("the same before training")
    rank: int = measure(
        "numerical rank (Press et al. 2007, epsilon of float32) of the matrix of the mixture's "
        "log-probabilities at test targets",
        caution="a numerical rank depends on its tolerance and on the number of rows",
    )
    rank_model: int = measure("the same of the output layer alone")
    rank_bound: int = measure(
        "largest rank of the latter: d + 1, one more with a bias, never more than V"
    )
    rank_rows: int = measure("rows N of both matrices")
    seconds: float = measure("training and measuring, wall clock", unit="seconds")
    cpu_seconds: float = measure("the same, processor time of the process", unit="seconds")
    versions: dict[str, str] = measure("software")


def run(
    begin: Callable[[], Trial],
    objective: str,
    seed: int,
    folder: Path,
    show: Show = lambda share: None,
) -> Run:
    """Train by one of the objectives, and measure.

    Args:
        begin: makes the model and its data.
        objective: its name, for the run and for messages.
        seed: likewise.
        folder: for the checkpoints of a training that may be interrupted.
        show: told of the share that is done.

    Raises:
        WideneckError: as `begin`, and a loss that is no longer finite.
    """
    began, began_cpu = time.perf_counter(), time.process_time()
    trial = begin()
    model = trial.model
    before = trial.seen("test").alignment()
    try:
        trial.train(folder, lambda share: show(TRAINING * share))
    except WideneckError as error:
        raise WideneckError(f"{objective}, seed {seed}: {error}") from None
    memory = trained_memory(model)
    memory_of(model).statistics.take(False)  # what was counted before
    test = trial.seen("test")
    counted = memory_of(model).statistics.take(False)
    memories = {"off": OFF, "full": memory, "fitted": fitted(trial.seen("valid"), memory)}
    views = {}
    for number, (name, one) in enumerate(memories.items()):
        losses, share = test.likelihoods(one)
        texts, measured = [], Measured(each={})
        if name in WRITTEN[objective]:
            with with_memory(model, one):
                texts = trial.write()
            measured = trial.measured(texts)
        assert one.temperature is not None
        assert one.bias is not None
        views[name] = View(
            temperature=one.temperature,
            bias=one.bias,
            losses=test.means(losses),
            memory_share=share[test.asked].double().mean().item(),
            each=measured.each,
            whole=measured.whole,
            texts=texts,
        )
        show(TRAINING + (1 - TRAINING) * (number + 1) / len(memories))
    mixture, alone = trial.rows()
    return Run(
        objective=objective,
        seed=seed,
        views=views,
        beside={name: means(one) for name, one in trial.beside().items()},
        cut=trial.cut,
        documents=trial.documents,
        subjects=trial.subjects,
        recalled=test.recalled(),
        right={name: counted[of] for name, of in RIGHT.items()},
        alignment=test.alignment(),
        alignment_before=before,
        rank=numerical_rank(mixture),
        rank_model=numerical_rank(alone),
        rank_bound=model.get_output_embeddings().rank_bound,
        rank_rows=len(mixture),
        seconds=round(time.perf_counter() - began, 1),
        cpu_seconds=round(time.process_time() - began_cpu, 1),
        versions=versions(),
    )


def means(measured: Measured) -> dict[str, float]:
    """Each measure over all texts, of those that it has something to say of."""
    found = {name: mean_known(values) for name, values in measured.each.items()}
    return {name: mean for name, mean in found.items() if mean is not None} | measured.whole
