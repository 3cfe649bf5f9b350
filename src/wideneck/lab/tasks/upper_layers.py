"""The last layers of a model, run from stored states of those below, which never change.

For models of transformers that are built like Llama, with `layers` and `norm` in `model.model`.

B rows of T tokens, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.models import evaluating

ROWS = 4
"""Rows that are run at a time."""
CLOSE = 1e-3
"""By how much rounding may move a state that enters the output layer, of its own size."""


def first_trained(model: Any, num_layers: int) -> int:
    """The number of the lowest layer of the last `num_layers`.

    Raises:
        WideneckError: the model is built otherwise, or has fewer.
    """
    base = getattr(model, "model", None)
    if not hasattr(base, "layers") or not hasattr(base, "norm"):
        raise WideneckError(
            f"{type(model).__name__} is not built like Llama, so its last layers cannot be trained "
            "alone: train it whole by --scale paper, or name another model."
        )
    if len(base.layers) < num_layers:
        raise WideneckError(
            f"{type(model).__name__} has {len(base.layers)} layers, and the last {num_layers} are "
            "to be trained: name another model."
        )
    return len(base.layers) - num_layers


@torch.no_grad()
def states_before(model: Any, first: int, ids: Tensor) -> Tensor:
    """(B, T, D): what layer `first` reads, on the CPU.

    Raises:
        WideneckError: run from them, the model predicts something else.
    """
    base, found = model.model, []
    layers = base.layers
    handle = base.norm.register_forward_pre_hook(lambda _, args: found.append(args[0].cpu()))
    base.layers = layers[:first]
    try:
        with evaluating(model):
            for rows in ids.split(ROWS):
                base(input_ids=rows.to(model.device), use_cache=False)
    finally:
        base.layers = layers
        handle.remove()
    states = torch.cat(found)
    _check(model, first, ids[:1].to(model.device), states[:1])
    return states


@contextmanager
def running_from(model: Any, first: int | None, states: Tensor | None) -> Iterator[None]:
    """Inside, the model runs from layer `first` on, from `states` of the ids it is called with.

    None of either: the whole model runs.
    """
    if first is None or states is None:
        yield
        return
    base = model.model
    layers = base.layers
    base.layers = layers[first:]
    # Not at the embedding, which a memory calls, too, for the vectors of tokens.
    entered = base.layers[0] if len(base.layers) else base.norm
    given = states.to(model.device)
    handle = entered.register_forward_pre_hook(lambda _, args: (given, *args[1:]))
    try:
        yield
    finally:
        base.layers = layers
        handle.remove()


def _check(model: Any, first: int, ids: Tensor, states: Tensor) -> None:
    with evaluating(model):
        whole = model.model(input_ids=ids, use_cache=False).last_hidden_state
        with running_from(model, first, states):
            part = model.model(input_ids=ids, use_cache=False).last_hidden_state
    if (whole - part).abs().max() > CLOSE * whole.abs().max():
        raise WideneckError(
            f"Run in two parts, {type(model).__name__} predicts something else than in one, so its "
            "last layers cannot be trained alone: train it whole by --scale paper."
        )
