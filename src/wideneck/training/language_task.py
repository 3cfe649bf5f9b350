"""A small language model on its text, as a task."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wideneck.audits.states import Progress
from wideneck.data import (
    EncodedCorpus,
    Vocabulary,
    encode_corpus,
    read_corpus,
    write_vocabulary,
)
from wideneck.models.small.config import States
from wideneck.models.small.language_model import LanguageModel, language_model
from wideneck.training.batches import Batches, Segments, Windows
from wideneck.training.checkpoint import load_model
from wideneck.training.folder import MODEL, VOCABULARY
from wideneck.training.in_order import text_in_order
from wideneck.training.loop import mean_nll
from wideneck.training.recipe import Recipe
from wideneck.training.task import Task


def language_task(
    recipe: Recipe, out: Path, share: tuple[int, int], progress: Progress | None
) -> Task:
    """Text, model and batches of a recipe; the model's weights are drawn from torch's generator.

    Args:
        recipe: of a language model.
        out: the run's folder, which gets the vocabulary.
        share: this process's number, and how many there are.
        progress: told of nothing; reading a text takes seconds.
    """
    corpus = encode_corpus(read_corpus(recipe.data.text), recipe.data)
    if share[0] == 0 and isinstance(corpus.tokenizer, Vocabulary):
        write_vocabulary(out / VOCABULARY, corpus.tokenizer)
    model = build_model(recipe, corpus.vocab_size)
    if recipe.initial is not None:
        load_model(model, Path(recipe.initial) / MODEL)
    return Task(
        model=model,
        batches=_batches(recipe, model, corpus.train.ids, share),
        valid=text_in_order(model, corpus.valid.ids, recipe.training),
        about={
            "text": corpus.name,
            "text_sha256": corpus.sha256,
            "vocabulary_sha256": corpus.vocabulary_sha256,
            "vocab_size": corpus.vocab_size,
        },
        finish=lambda best: _finish(recipe, corpus, best),
    )


def build_model(recipe: Recipe, vocab_size: int) -> LanguageModel:
    """The model of a recipe with fresh weights."""
    assert not isinstance(recipe.model, States)
    return language_model(recipe.model, recipe.head, vocab_size=vocab_size)


def _batches(recipe: Recipe, model: LanguageModel, ids: Tensor, share: tuple[int, int]) -> Batches:
    context = model.backbone.context
    if context is None:
        return Segments(ids, recipe.training, recipe.seed, share)
    return Windows(ids, context, recipe.training, recipe.seed, share)


def _finish(recipe: Recipe, corpus: EncodedCorpus, best: nn.Module) -> dict[str, Any]:
    if corpus.test is None:
        return {}
    assert isinstance(best, LanguageModel)
    device = next(best.parameters()).device
    loss = mean_nll(best, text_in_order(best, corpus.test.ids, recipe.training), device)
    return {"test_loss": loss, "test_perplexity": math.exp(min(loss, 700))}
