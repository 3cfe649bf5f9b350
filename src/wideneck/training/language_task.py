"""A small language model on its text, as a task."""

import os
from pathlib import Path

from wideneck.audits.states import Progress
from wideneck.data import (
    Encoded,
    EncodedCorpus,
    Vocabulary,
    encode_corpus,
    read_corpus,
    read_vocabulary,
    write_vocabulary,
)
from wideneck.errors import WideneckError
from wideneck.models.small.config import States
from wideneck.models.small.language_model import LanguageModel, language_model
from wideneck.models.small.size import check_fits
from wideneck.training.batches import Batch, Batches, Segments, Task, WindowBatches, text_in_order
from wideneck.training.checkpoint import load_model
from wideneck.training.folder import CHECKPOINT, MODEL, VOCABULARY
from wideneck.training.headers import TextWeights
from wideneck.training.recipe import Recipe
from wideneck.training.tensor_file import Stored


def language_task(
    recipe: Recipe, out: Path, share: tuple[int, int], progress: Progress | None
) -> Task:
    """Text, model and batches of a recipe; the model's weights are drawn from torch's generator.

    The run's folder `out` gets the vocabulary.
    """
    corpus = encode_corpus(read_corpus(recipe.data.text), recipe.data)
    if share[0] == 0 and isinstance(corpus.tokenizer, Vocabulary):
        _keep_vocabulary(out / VOCABULARY, corpus.tokenizer)
    assert not isinstance(recipe.model, States)
    check_fits(recipe.model, recipe.head, vocab_size=corpus.vocab_size)
    model = language_model(recipe.model, recipe.head, vocab_size=corpus.vocab_size)
    if recipe.initial is not None and not os.path.exists(out / CHECKPOINT):
        _start_from(Path(recipe.initial).expanduser() / MODEL, model, corpus)
    order, context = (recipe.training, recipe.seed, share), model.backbone.context
    if context is None:
        batches: Batches = Segments(corpus.train.ids, *order)
    else:
        batches = WindowBatches(corpus.train.ids, context, *order)
    rows = recipe.training.evaluation_batch_size
    valid = _split_in_order("valid", corpus.valid, recipe, model, rows)
    # Before the training, not after it, is the time to say that it is too short.
    rows = recipe.training.test_batch_size or rows
    test = (
        None if corpus.test is None else _split_in_order("test", corpus.test, recipe, model, rows)
    )
    return Task(
        model=model,
        batches=batches,
        valid=valid,
        about={
            "text": corpus.name,
            "text_sha256": corpus.sha256,
            "vocabulary_sha256": corpus.vocabulary_sha256,
            "vocab_size": corpus.vocab_size,
        },
        test=test,
    )


def _keep_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    if not path.exists():
        write_vocabulary(path, vocabulary)
    elif read_vocabulary(path).sha256 != vocabulary.sha256:
        raise WideneckError(
            f"{path} holds other words than the text does now; give the text that this run was "
            "trained on, or train in another folder by --out."
        )


def _start_from(path: Path, model: LanguageModel, corpus: EncodedCorpus) -> None:
    stored = Stored(path)
    if stored.header(TextWeights).vocabulary_sha256 != corpus.vocabulary_sha256:
        raise WideneckError(
            f"{path} was trained with another vocabulary than that of {corpus.name}; leave initial "
            "out of the recipe, or give the text it was trained on."
        )
    load_model(model, stored)
    stored.say_if_without_sums()


def _split_in_order(
    name: str, split: Encoded, recipe: Recipe, model: LanguageModel, batch_size: int
) -> list[Batch]:
    try:
        return text_in_order(model, split.ids, recipe.training, batch_size)
    except WideneckError as error:
        raise WideneckError(f"Of the {name} split: {error}") from None
