"""Likelihoods of the memory study: the model alone, the mixture, and the best untrained cache.

The upper layers run from stored states, as what the frozen layers below give never changes: for
models of transformers that are built like Llama, with embedding, layers and norm of `model.model`.

W windows of T tokens, so T - 1 predictions each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import minimize
from torch import Tensor

from wideneck.memory import (
    Memory,
    Recall,
    log_shares,
    masked_logsumexp,
    mixture_nll,
    positives,
    similarities,
    visible_history,
)

ROWS = 4
"""Windows that are run at a time."""
Setting = tuple[float, float]
"""Temperature and bias."""
OFF: Setting = (1.0, -1e9)
"""The model without its memory."""
JOINT = Memory()


@dataclass(frozen=True)
class Windows:
    """W windows of T tokens, and what the first trained layer reads of them."""

    ids: Tensor
    """(W, T)."""
    states: Tensor
    """(W, T, D)."""
    document: Tensor
    """(W,)."""


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
    """How far a logit of the upper layers, from the stored states, is from the whole model's."""
    whole = model(input_ids=ids, use_cache=False).logits
    with starting_from(model, first, states):
        part = model(input_ids=ids, use_cache=False).logits
    return (whole - part).abs().max().item()


@dataclass(frozen=True)
class Seen:
    """What any temperature and bias need of the windows."""

    nll: Tensor
    """(W, T - 1), of the model without its memory."""
    similarity: Tensor
    """(W, T - 1, T - 1)."""
    visible: Tensor
    """(1, T - 1, T - 1)."""
    positive: Tensor
    """(W, T - 1, T - 1), the visible memories of the target."""


@torch.no_grad()
def seen(model: Any, windows: Windows, first: int) -> Seen:
    """Run the model from layer `first` on."""
    head = model.get_output_embeddings()
    nll, similarity = [], []
    for ids, states in zip(windows.ids.split(1), windows.states.split(1), strict=True):
        with starting_from(model, first, states):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        nll.append(head.nll_and_log_normalizer(hidden, ids[:, 1:])[0])
        similarity.append(similarities(hidden, hidden))
    real = torch.ones_like(windows.ids[:1], dtype=torch.bool)
    visible = visible_history(real)[:, :-1]
    target = windows.ids[:, 1:]
    positive = positives(visible, target, target)
    return Seen(torch.cat(nll), torch.cat(similarity), visible, positive)


@torch.no_grad()
def mixture(of: Seen, setting: Setting) -> tuple[Tensor, Tensor]:
    """(W, T - 1) losses of the joint mixture in nats, and the memory's share."""
    temperature, bias = setting
    s = of.similarity / temperature + bias
    found = Recall(masked_logsumexp(s, of.visible), masked_logsumexp(s, of.positive))
    return mixture_nll(JOINT, of.nll, found), log_shares(JOINT, found.log_all, None)[1].exp()


def fitted(of: Seen, start: Setting) -> Setting:
    """Temperature and bias with the lowest mean loss (Nelder and Mead 1965)."""

    def loss(x: Any) -> float:
        return mixture(of, (float(x[0]) * start[0], float(x[1])))[0].double().mean().item()

    simplex = [[1.0, start[1]], [0.5, start[1]], [1.0, start[1] + 2]]
    options = {"initial_simplex": simplex, "xatol": 1e-2, "fatol": 1e-5}
    bounds = [(1e-2, 1e2), (None, None)]
    scale, bias = minimize(loss, simplex[0], method="Nelder-Mead", bounds=bounds, options=options).x
    return float(scale) * start[0], float(bias)


def setting_of(model: Any) -> Setting:
    memory = model.cache_memory
    return memory.log_temperature.exp().item(), memory.bias.item()


@contextmanager
def with_setting(model: Any, setting: Setting) -> Iterator[None]:
    """Inside, the memory has another temperature and bias."""
    memory = model.cache_memory
    before = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    with torch.no_grad():
        memory.log_temperature.fill_(setting[0]).log_()
        memory.bias.fill_(setting[1])
    try:
        yield
    finally:
        memory.load_state_dict(before)


@torch.no_grad()
def statistics(model: Any, windows: Windows, first: int) -> dict[str, list[float]]:
    """The means that the model itself keeps, of each window."""
    found: dict[str, list[float]] = {}
    model.cache_memory.statistics.take(False)
    for ids, states in zip(windows.ids.split(1), windows.states.split(1), strict=True):
        with starting_from(model, first, states):
            model(input_ids=ids, labels=ids, use_cache=False)
        for name, value in model.cache_memory.statistics.take(False).items():
            found.setdefault(name, []).append(value)
    return found
