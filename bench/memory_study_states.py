"""Training the last layers from stored states: what the frozen layers below give never changes.

For models of transformers that are built like Llama: embedding, layers and norm of `model.model`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

ROWS = 4
"""Windows that are run at a time."""


@torch.no_grad()
def states_before(model: Any, first: int, ids: Tensor) -> Tensor:
    """(W, T, D): what layer `first` reads."""
    base, found = model.model, []
    layers = base.layers
    handle = base.norm.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    base.layers = layers[:first]
    try:
        for rows in ids.split(ROWS):
            base(input_ids=rows, use_cache=False)
    finally:
        base.layers = layers
        handle.remove()
    return torch.cat(found)


@contextmanager
def starting_from(model: Any, first: int, states: Tensor) -> Iterator[None]:
    """Inside, the model runs from layer `first` on, from `states` of the ids it is called with."""
    base = model.model
    layers = base.layers
    base.layers = layers[first:]
    # Not at the embedding, which a memory calls, too, for the vectors of tokens.
    entered = base.layers[0] if len(base.layers) else base.norm
    handle = entered.register_forward_pre_hook(lambda _, args: (states, *args[1:]))
    try:
        yield
    finally:
        base.layers = layers
        handle.remove()


@torch.no_grad()
def largest_difference(model: Any, first: int, ids: Tensor, states: Tensor) -> float:
    """Of a logit, between the whole model and its upper layers from the stored states."""
    whole = model(input_ids=ids, use_cache=False).logits
    with starting_from(model, first, states):
        part = model(input_ids=ids, use_cache=False).logits
    return (whole - part).abs().max().item()
