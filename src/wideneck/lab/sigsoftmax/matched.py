"""The control of the mixtures: a softmax as wide as it takes to have their parameters."""

import itertools
from dataclasses import replace

import torch

from wideneck.config import Softmax
from wideneck.models.small.config import AwdLstm, States, Transformer
from wideneck.models.small.language_model import language_model
from wideneck.training.recipe import Recipe

MATCHED = "softmax, matched"


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
