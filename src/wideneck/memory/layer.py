"""The memory of a model that generates: a further layer in the cache of transformers.

It holds the hidden state and the token of every position, so it is as long as the keys and values
of the other layers, and the pairs (h_j, x_{j+1}) are made when it is read.  Beams, several returned
sequences, cropping after a wrong guess and chunks of a prompt then act on it as on any layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from wideneck.errors import WideneckError

NAMES = ("cache", "past_key_values")
"""What transformers calls the cache of keys and values from 5.24 on, which takes the other as an
argument until 5.40; and before."""


def cache_in(named: Mapping[str, Any]) -> Any:
    """The cache among the options of a forward, or in its result; None if there is none.

    By its items: asked for by name, a result of transformers 5.24 logs that the old one is going.
    """
    found = (value for name, value in named.items() if name in NAMES)
    return next((value for value in found if value is not None), None)


@dataclass(frozen=True)
class History:
    """The positions that a model has read."""

    states: Tensor
    """(B, T, D)."""
    ids: Tensor
    """(B, T)."""
    valid: Tensor
    """(B, T), False for padding."""


class MemoryLayer(DynamicLayer):
    """Keys (B, 1, T, D) are hidden states; values (B, 1, T, 2) are token ids and 1 for no padding.

    The layer's own start would give the values the dtype of the keys, which cannot count to 49,152.
    """

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[..., :0, :], value_states[..., :0, :]
        self.is_initialized = True

    def token_ids(self) -> Tensor:
        """(B, T), of every position."""
        assert self.values is not None
        return self.values[:, 0, :, 0]

    def add(self, history: History) -> History:
        """What was read before with the new positions behind it."""
        tokens = torch.stack([history.ids, history.valid.long()], dim=-1)
        states, tokens = self.update(history.states[:, None], tokens[:, None])
        return History(states[:, 0], tokens[:, 0, :, 0], tokens[:, 0, :, 1].bool())


def check_cache(cache: Any, model: str) -> None:
    """Refuse a cache in which a memory could not ride."""
    if type(cache) is not DynamicCache:
        raise WideneckError(
            f"The memory of {model} rides in a DynamicCache of transformers, got "
            f"{type(cache).__name__}: leave out cache_implementation and {' or '.join(NAMES)}, or "
            "pass use_cache=False."
        )
    if cache.offloading:
        raise WideneckError(
            f"The memory of {model} does not move to the CPU with an offloaded cache: leave out "
            "cache_implementation='offloaded'."
        )


def memory_layer(cache: DynamicCache) -> MemoryLayer | None:
    """The memory that rides in a cache, or None."""
    return next((layer for layer in cache.layers if isinstance(layer, MemoryLayer)), None)


def remembered(cache: DynamicCache, history: History, num_before: int, model: str) -> History:
    """Put new positions into the cache's memory, and take all of them.

    Args:
        cache: after the model has read the new positions.
        history: the new positions.
        num_before: how many the cache held before them.
        model: its name, for the errors.
    """
    layer = memory_layer(cache)
    held = 0 if layer is None else layer.get_seq_length()
    if held != num_before:
        raise WideneckError(
            f"The cache holds {num_before} positions, of which the memory of {model} has seen "
            f"{held}: make the cache with this model, from the first token on."
        )
    if layer is None:
        layer = MemoryLayer()
        cache.layers.append(layer)
    return layer.add(history)
