"""Parameters of a recipe's model."""

import torch

from wideneck.models.small.config import AwdLstm, States
from wideneck.models.small.language_model import language_model
from wideneck.training.recipe import Recipe


def num_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Numbers that training changes, a tied matrix counted once.

    An AWD-LSTM is counted on the meta device, at no cost; transformers needs numbers to run on.
    """
    assert not isinstance(recipe.model, States)
    device = "meta" if isinstance(recipe.model, AwdLstm) else "cpu"
    with torch.device(device), torch.random.fork_rng(devices=[]):
        model = language_model(recipe.model, recipe.head, vocab_size=vocab_size)
    return model.num_parameters
