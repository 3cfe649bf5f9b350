"""The evaluation of a folder of `wideneck train`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.clock import Clock
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.audits.states import Progress
from wideneck.commands.evaluated_text import chosen_text, of_split, origin
from wideneck.data import (
    Corpus,
    EncodedCorpus,
    Vocabulary,
    encode_corpus,
    encode_documents,
    read_corpus,
    token_bytes,
)
from wideneck.errors import WideneckError
from wideneck.evaluation.config import DynamicEvaluation
from wideneck.evaluation.dynamic import dynamic_perplexity, gradient_statistics
from wideneck.evaluation.neural_cache import THETAS, cache_perplexity, fit_cache
from wideneck.evaluation.perplexity import static_perplexity
from wideneck.evaluation.results import Evaluation, WithCache, WithLearning
from wideneck.evaluation.streaming import SEGMENT, Reading, spread_contexts
from wideneck.training.saved_run import SavedRun, load_run

MANY = 10
"""Rows of the training and validation text, as the papers read the latter; the test text, and any
other, is one row.  And windows at a time, on which no number depends."""


def evaluate_run(
    path: Path,
    *,
    device: torch.device,
    text: str | None,
    split: str | None,
    dynamic: DynamicEvaluation | None,
    cache_size: int | None,
    num_contexts: int | None,
    num_tokens: int | None,
    progress: Progress | None,
) -> Evaluation:
    """The model of a run; see `wideneck.commands.evaluate.evaluate`."""
    clock = Clock()
    with clock("read model and text"):
        run = load_run(path)
        model = run.model.to(device)
        own = None
        if text is None or dynamic is not None or cache_size is not None:
            own = _own_text(run)
        if text is None:
            assert own is not None
            chosen = of_split(own[0], split)
            encoded = getattr(own[1], str(chosen.split))
        else:
            chosen = chosen_text(text, split)
            encoded = encode_documents(chosen.documents, run.tokenizer, chosen.name)
        sizes = token_bytes(chosen.documents, run.tokenizer, chosen.name)
        assert len(sizes) == len(encoded.ids)
    ids = encoded.ids[:num_tokens]
    many = model.backbone.context is not None or chosen.split in ("train", "valid")

    def reading(rows: int) -> dict[str, Any]:
        """How the text is read in this number of rows, and the bytes of what is predicted then."""
        predicted = Reading.of(model, ids, batch_size=rows, segment=SEGMENT).predicted
        num_bytes = int(sizes[: len(ids)][predicted].sum(dtype=torch.long))
        return {"batch_size": rows, "num_bytes": num_bytes}

    rows = MANY if many else 1
    with clock("perplexity"):
        plain = static_perplexity(model, ids, **reading(rows), progress=progress)
    cache = learning = ranks = None
    if cache_size is not None:
        assert own is not None
        with clock("neural cache"):  # fitted on the run's own text, whatever is read then
            fit = fit_cache(
                model,
                own[1].valid.ids,
                batch_size=MANY,
                size=cache_size,
                progress=_named(progress, "fitting the neural cache"),
            )
            cache = WithCache(
                size=cache_size,
                theta=fit.cache.theta,
                weight=fit.cache.weight,
                valid_loss=fit.loss,
                valid_loss_without=fit.loss_model,
                perplexity=cache_perplexity(
                    model,
                    ids,
                    fit.cache,
                    **reading(rows),
                    progress=_named(progress, "neural cache"),
                ),
            )
    if dynamic is not None:
        assert own is not None
        with clock("dynamic evaluation"):  # with statistics of the run's own text, likewise
            statistics = gradient_statistics(model, own[1].train.ids, progress=progress)
            num_bytes = reading(1)["num_bytes"]
            learning = WithLearning(
                **asdict(dynamic),
                num_batches=statistics.num_batches,
                perplexity=dynamic_perplexity(
                    model, ids, statistics, dynamic, num_bytes=num_bytes, progress=progress
                ),
            )
    if num_contexts is not None:
        with clock("ranks"):
            named = _named(progress, "contexts for the rank")
            contexts = spread_contexts(model, ids, num_contexts, batch_size=rows, progress=named)
            ranks = log_prob_ranks(
                model.head, contexts, num_contexts=len(contexts), progress=progress
            )
    return Evaluation(
        source=origin(
            model,
            model.head,
            chosen,
            model=str(path),
            kind="run",
            seconds=clock.seconds,
            notes=_notes(run, ids, len(encoded.ids), cache),
        ),
        plain=plain,
        over_documents=None,
        neural_cache=cache,
        dynamic=learning,
        ranks=ranks,
    )


def _own_text(run: SavedRun) -> tuple[Corpus, EncodedCorpus]:
    """The text that a run was trained on, as text and as ids."""
    data = run.recipe.data
    corpus = read_corpus(data.text)
    encoded = encode_corpus(corpus, data)
    if encoded.sha256 != run.about.text_sha256:
        raise WideneckError(
            f"The text {corpus.name} is not what it was when {run.path} was trained on it: put the "
            "old one back, or evaluate on another by --text."
        )
    return corpus, encoded


def _named(progress: Progress | None, name: str) -> Progress | None:
    """Every pass over the text is a stage of its own."""
    if progress is None:
        return None
    return lambda _, done, total: progress(name, done, total)


def _notes(run: SavedRun, ids: Tensor, num_tokens: int, cache: WithCache | None) -> list[str]:
    """On the ids that were read, of all the text's tokens."""
    notes = []
    if isinstance(run.tokenizer, Vocabulary):
        share = (ids == run.tokenizer.unk_id).double().mean().item()
        if share > 0:
            notes.append(
                f"{100 * share:.2f} % of the tokens are <unk>, for whose bytes nothing is paid: "
                "bits per byte are too low by what their words would cost."
            )
    if cache is not None and cache.weight > 0 and cache.theta == max(THETAS):
        notes.append("The cache's theta is the largest of its grid: a larger one may do better.")
    if len(ids) < num_tokens:
        notes.append(f"The first {len(ids):,} tokens of the text were read.")
    return notes
