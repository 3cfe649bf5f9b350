"""A run's folder back to its recipe, its model and its tokenizer."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wideneck.data import read_vocabulary, recipe_tokenizer
from wideneck.data.config import WORDS
from wideneck.data.encoded import vocabulary_sha256
from wideneck.errors import WideneckError
from wideneck.models.small.config import States
from wideneck.models.small.language_model import LanguageModel, language_model
from wideneck.models.small.size import at_least
from wideneck.training.checkpoint import load_model
from wideneck.training.folder import FOLDER, MODEL, RECIPE, VOCABULARY
from wideneck.training.headers import TextWeights
from wideneck.training.recipe import Recipe
from wideneck.training.recipe_file import recipe
from wideneck.training.tensor_file import Stored


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """A trained small language model."""

    path: Path
    recipe: Recipe
    model: LanguageModel
    """With its best weights, in eval mode."""
    tokenizer: Any
    """A `Vocabulary`, or a fast Hugging Face tokenizer."""
    about: TextWeights
    """Text and vocabulary that it was trained on."""


def read_run_recipe(path: Path) -> Recipe:
    """The recipe of a run that has weights."""
    content = FOLDER.read(path / RECIPE)
    try:
        chosen = recipe(content)
    except WideneckError as error:
        raise WideneckError(f"{path / RECIPE} is not the recipe of a run: {error}") from None
    if not (path / MODEL).exists():
        raise WideneckError(
            f"{path} has no weights yet ({MODEL}); a run writes them at its first evaluation."
        )
    return chosen


def load_run(path: str | Path) -> SavedRun:
    """Read a run with its best weights.

    Raises:
        WideneckError: the folder is none of a language model's run, has no weights yet, or its
            weights and its vocabulary do not fit.
    """
    path = Path(path)
    chosen = read_run_recipe(path)
    if isinstance(chosen.model, States):
        raise WideneckError(
            f"{path} holds a head trained on cached states, not a language model: its losses are "
            "in its metrics.jsonl and result.json, and wideneck.load puts it into its model."
        )
    stored = Stored(path / MODEL)
    about = stored.header(TextWeights)
    if chosen.data.tokens == WORDS:
        named = str(path / VOCABULARY)
        tokenizer: Any = read_vocabulary(path / VOCABULARY)
    else:
        named = f"The tokenizer {chosen.data.tokens}"
        tokenizer = recipe_tokenizer(chosen.data.tokens)
    if vocabulary_sha256(tokenizer) != about.vocabulary_sha256:
        raise WideneckError(
            f"{named} is not the vocabulary that {path / MODEL} was trained with; give it back the "
            "one that it had, or train again."
        )
    needed = at_least(chosen.model, chosen.head, vocab_size=about.vocab_size)
    held = sum(math.prod(stored.shape(name)) for name in stored.names())
    if needed > held:  # said before a model is allocated that no file could fill
        raise WideneckError(
            f"{stored.path} holds {held:,} numbers, and the recipe makes a model of {needed:,} or "
            "more: one of the two was changed; give back the one that belongs to the other."
        )
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here do not stay
        model = language_model(chosen.model, chosen.head, vocab_size=about.vocab_size)
    load_model(model, stored)
    stored.say_if_without_sums()
    return SavedRun(path=path, recipe=chosen, model=model.eval(), tokenizer=tokenizer, about=about)
