"""The evaluation of a folder of `wideneck train`."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from wideneck.audits.clock import Clock
from wideneck.audits.output.head_ranks import LogProbRanks, log_prob_ranks
from wideneck.audits.states import Progress
from wideneck.commands.evaluated_text import Chosen, chosen_text, of_split
from wideneck.commands.evaluation_source import device, evaluation_source
from wideneck.data import (
    Corpus,
    Encoded,
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
from wideneck.evaluation.perplexity import Perplexity, static_perplexity
from wideneck.evaluation.results import Evaluation, WithCache, WithLearning
from wideneck.evaluation.streaming import SEGMENT, Reading, spread_contexts
from wideneck.models.small.language_model import LanguageModel
from wideneck.training.saved_run import SavedRun, load_run

MANY = 10
"""Rows of the training and validation text, as the papers read the latter; the test text, and any
other, is one row.  And windows at a time, on which no number depends."""


def evaluate_run(
    path: Path,
    *,
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
        run.model.to(device())
        own = None
        if text is None or dynamic is not None or cache_size is not None:
            own = _own_text(run)
        if text is None:
            assert own is not None
            chosen = of_split(own.corpus, split)
            encoded = own.splits[chosen.split]
        else:
            chosen = chosen_text(text, split)
            encoded = encode_documents(chosen.documents, run.tokenizer, chosen.name)
    part = _Part.of(run, encoded, chosen, num_tokens)
    with clock("perplexity"):
        plain = part.perplexity(progress)
    cache = learning = ranks = None
    if cache_size is not None:
        assert own is not None
        with clock("neural cache"):
            cache = _cache(part, own, cache_size, progress)
    if dynamic is not None:
        assert own is not None
        with clock("dynamic evaluation"):
            learning = _dynamic(part, own, dynamic, progress)
    if num_contexts is not None:
        with clock("ranks"):
            ranks = _ranks(part, num_contexts, progress)
    return Evaluation(
        source=evaluation_source(
            model=str(path),
            kind="run",
            head=run.model.head,
            module=run.model,
            text=chosen,
            seconds=clock.seconds,
            notes=_notes(run, part, cache),
        ),
        plain=plain,
        over_documents=None,
        neural_cache=cache,
        dynamic=learning,
        ranks=ranks,
    )


@dataclass(frozen=True)
class _OwnText:
    """The text that a run was trained on."""

    corpus: Corpus
    encoded: EncodedCorpus

    @property
    def splits(self) -> dict[str | None, Encoded | None]:
        """By name."""
        encoded = self.encoded
        return {"train": encoded.train, "valid": encoded.valid, "test": encoded.test}


def _own_text(run: SavedRun) -> _OwnText:
    data = run.recipe.data
    corpus = read_corpus(data.text)
    encoded = encode_corpus(corpus, data)
    if encoded.sha256 != run.about.text_sha256:
        raise WideneckError(
            f"The text {corpus.name} is not what it was when {run.path} was trained on it: put the "
            "old one back, or evaluate on another by --text."
        )
    return _OwnText(corpus, encoded)


@dataclass(frozen=True)
class _Part:
    """A model, and what it reads."""

    model: LanguageModel
    ids: Tensor
    bytes: Tensor
    """(N,): of each token."""
    cut: bool
    """Whether the text goes on."""
    rows: int

    @classmethod
    def of(
        cls, run: SavedRun, encoded: Encoded | None, chosen: Chosen, num_tokens: int | None
    ) -> "_Part":
        assert encoded is not None
        ids = encoded.ids[:num_tokens]
        sizes = token_bytes(chosen.documents, run.tokenizer, chosen.name)
        assert len(sizes) == len(encoded.ids)
        many = run.model.backbone.context is not None or chosen.split in ("train", "valid")
        return cls(
            model=run.model,
            ids=ids,
            bytes=sizes[: len(ids)],
            cut=len(ids) < len(encoded.ids),
            rows=MANY if many else 1,
        )

    def num_bytes(self, rows: int) -> int:
        """Of the tokens that are predicted where the text is read in so many rows."""
        reading = Reading.of(self.model, self.ids, batch_size=rows, segment=SEGMENT)
        return int(self.bytes[reading.predicted].sum(dtype=torch.long))

    def perplexity(self, progress: Progress | None) -> Perplexity:
        """The model as it is."""
        return static_perplexity(
            self.model,
            self.ids,
            batch_size=self.rows,
            num_bytes=self.num_bytes(self.rows),
            progress=progress,
        )


def _cache(part: _Part, own: _OwnText, size: int, progress: Progress | None) -> WithCache:
    """Fitted on the run's own validation split, whatever is read then."""
    fit = fit_cache(
        part.model,
        own.encoded.valid.ids,
        batch_size=MANY,
        size=size,
        progress=_named(progress, "fitting the neural cache"),
    )
    found = cache_perplexity(
        part.model,
        part.ids,
        fit.cache,
        batch_size=part.rows,
        num_bytes=part.num_bytes(part.rows),
        progress=_named(progress, "neural cache"),
    )
    return WithCache(
        size=size,
        theta=fit.cache.theta,
        weight=fit.cache.weight,
        valid_loss=fit.loss,
        valid_loss_without=fit.loss_model,
        perplexity=found,
    )


def _dynamic(
    part: _Part, own: _OwnText, settings: DynamicEvaluation, progress: Progress | None
) -> WithLearning:
    """Statistics from the run's own training split, whatever is read then."""
    statistics = gradient_statistics(part.model, own.encoded.train.ids, progress=progress)
    found = dynamic_perplexity(
        part.model,
        part.ids,
        statistics,
        settings,
        num_bytes=part.num_bytes(1),
        progress=progress,
    )
    return WithLearning(**asdict(settings), num_batches=statistics.num_batches, perplexity=found)


def _ranks(part: _Part, num_contexts: int, progress: Progress | None) -> LogProbRanks:
    contexts = spread_contexts(
        part.model,
        part.ids,
        num_contexts,
        batch_size=part.rows,
        progress=_named(progress, "contexts for the rank"),
    )
    return log_prob_ranks(part.model.head, contexts, num_contexts=len(contexts), progress=progress)


def _named(progress: Progress | None, name: str) -> Progress | None:
    """Every pass over the text is a stage of its own."""
    if progress is None:
        return None
    return lambda _, done, total: progress(name, done, total)


def _notes(run: SavedRun, part: _Part, cache: WithCache | None) -> list[str]:
    notes = []
    if isinstance(run.tokenizer, Vocabulary):
        share = (part.ids == run.tokenizer.unk_id).double().mean().item()
        if share > 0:
            notes.append(
                f"{100 * share:.2f} % of the tokens are <unk>, for whose bytes nothing is paid: "
                "bits per byte are too low by what their words would cost."
            )
    if cache is not None and cache.weight > 0 and cache.theta == max(THETAS):
        notes.append("The cache's theta is the largest of its grid: a larger one may do better.")
    if part.cut:
        notes.append(f"The first {len(part.ids):,} tokens of the text were read.")
    return notes
