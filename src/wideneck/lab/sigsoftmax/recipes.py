"""Recipes of all arms: heads, mixtures, and a softmax as wide as it takes to match these."""

import itertools
from dataclasses import replace
from typing import Any

import torch

from wideneck.config import Softmax, head_config
from wideneck.lab.published import ours
from wideneck.models.small.config import AwdLstm, States, Transformer
from wideneck.models.small.language_model import language_model
from wideneck.recipes import shipped
from wideneck.training.recipe import Recipe
from wideneck.training.recipe_file import read_recipe

SCALES = ours("sigsoftmax", "scale")
"""Scale -> model or text -> what is run; and the heads and mixtures by the names of their arms."""
MATCHED = "softmax, matched"


def data_of(counts: dict[str, int]) -> str | None:
    """Which of the paper's texts has these counts, "PTB" or "WikiText-2"; None for neither."""
    for name, given in SCALES["paper"].items():
        base = read_recipe(shipped(given["recipes"]["heads"]))
        if base.data.expect.items() <= counts.items():
            return name
    return None


def recipes(given: dict[str, Any], text: str | None, counts: dict[str, int]) -> dict[str, Recipe]:
    """Those of every head with one output matrix, of every mixture, and of their control.

    Args:
        given: what `SCALES` has of a model or a text.
        text: as for `read_corpus`.
        counts: of tokens for training, and of words that are kept.
    """
    found = {}
    for group, file in given["recipes"].items():
        base = read_recipe(shipped(file), text=text)
        if "tokens" in given:
            epochs = round(given["tokens"] / counts["train"], 4)
            schedule = replace(base.training, epochs=epochs, evaluate_every=epochs)
            base = replace(base, training=schedule)
        for arm, head in SCALES[group].items():
            own = given["own"].get(group, {}) | given["own"].get(arm, {})
            found[arm] = replace(base, head=head_config(head, **own))
    return found | {MATCHED: matched(found["MoS"], counts["vocab_size"])}


def matched(mixture: Recipe, vocab_size: int) -> Recipe:
    """A softmax on a model that is wider by as much as the mixture's parameters, or just more.

    An LSTM gets a wider embedding, and with it a wider output matrix, as in Parthiban et al.; a
    transformer, whose width its heads divide, wider layers between.
    """
    wanted = num_parameters(mixture, vocab_size)
    wider = (_widened(mixture, more) for more in itertools.count())
    return next(recipe for recipe in wider if num_parameters(recipe, vocab_size) >= wanted)


def _widened(recipe: Recipe, more: int) -> Recipe:
    """With a softmax, and wider by `more`."""
    model = recipe.model
    if isinstance(model, AwdLstm):
        model = replace(model, embedding_size=model.embedding_size + more, last_size=None)
    elif isinstance(model, Transformer):
        inner = model.options["intermediate_size"] + more
        model = replace(model, options={**model.options, "intermediate_size": inner})
    return replace(recipe, head=Softmax(), model=model)


def num_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Numbers that training of a recipe's model changes, a tied matrix counted once.

    An AWD-LSTM is counted on the meta device, at no cost; transformers needs numbers to run on.
    """
    assert not isinstance(recipe.model, States)
    device = "meta" if isinstance(recipe.model, AwdLstm) else "cpu"
    with torch.device(device), torch.random.fork_rng(devices=[]):
        model = language_model(recipe.model, recipe.head, vocab_size=vocab_size)
    return model.num_parameters
