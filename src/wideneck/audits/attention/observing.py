"""Runs a model with its attention function replaced by one that is watched.

The watcher sees queries, keys and values of each layer as the model makes them, forms what it
needs, and gives the output; nothing of size layers x heads x context^2 is ever kept.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from wideneck.attached.normalizer_places import implementations, restore_implementations, switch
from wideneck.attention.config import Normalizer, Softmax
from wideneck.attention.forward import Call, as_call
from wideneck.attention.learned import LearnedNormalizer, take_hidden
from wideneck.audits.measured import UnmeasurableError
from wideneck.errors import WideneckError
from wideneck.files.boundary import ours

NAME = "wideneck_watched"

Watcher = Callable[[nn.Module, Call, Normalizer], Tensor]
"""(layer, call, normalizer with its present numbers) -> output (B, H, Q, Dv)."""


class _Watching(threading.local):
    watcher: Watcher | None = None


_watching = _Watching()


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **others: Any,
) -> tuple[Tensor, None]:
    with ours():  # the model calls this, within the boundary that `ask` draws around it
        assert _watching.watcher is not None
        try:
            call = as_call(module, query, key, value, attention_mask, **others)
        except WideneckError as error:
            raise UnmeasurableError(str(error)) from error
        normalizer: Any = getattr(module, "normalizer", None)
        config: Normalizer = Softmax()
        if isinstance(normalizer, LearnedNormalizer):
            hidden = take_hidden(module) if normalizer.hidden_size else None
            config = normalizer(None, hidden=hidden)
        out = _watching.watcher(module, call, config)
        return out.transpose(1, 2).to(query.dtype).contiguous(), None


@contextmanager
def watched(model: Any, watcher: Watcher) -> Iterator[None]:
    """Inside, the attention layers of the model call the watcher.

    Raises:
        UnmeasurableError: the model's class does not go through transformers' interface.
    """
    before, outer = implementations(model), _watching.watcher
    try:
        try:
            switch(model, NAME)
        except WideneckError as error:
            raise UnmeasurableError(str(error)) from error
        _watching.watcher = watcher
        with torch.no_grad():
            yield
    finally:
        _watching.watcher = outer
        restore_implementations(before)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
