"""Normalizers in the attention layers of a model: putting them there and taking them away.

What `use` measures of each layer is a `Place`; a saved model brings its places along.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from wideneck.attention.config import Normalizer, normalizer_config
from wideneck.attention.forward import NAME
from wideneck.attention.learned import LearnedNormalizer, note_hidden
from wideneck.attention.visits import unwatch, watch
from wideneck.errors import WideneckError
from wideneck.models.quiet import quiet_transformers

_KEY = "_wideneck_attention"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One attention layer."""

    name: str
    """Dotted, within the model."""
    num_heads: int
    hidden_size: int | None = None
    """Width of what enters the layer, where the normalizer reads it."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What a model holds while it is under a normalizer."""

    config: Normalizer
    places: tuple[Place, ...]
    before: list[tuple[Any, Any]]
    """Every config of the model with the attention implementation it had."""


def placed(model: Any) -> Placed | None:
    """What is in place, or None for a model's own attention."""
    return vars(model).get(_KEY)


def put(
    model: Any,
    config: Normalizer,
    places: tuple[Place, ...],
    before: list,
    kernel: str = "auto",
) -> None:
    """Normalizers into the attention layers; the implementation is switched already."""
    for place in places:
        layer = layer_of(model, place)
        first = next(layer.parameters(), None)
        normalizer = LearnedNormalizer(
            config,
            place.num_heads,
            place.hidden_size,
            device=torch.get_default_device() if first is None else first.device,
        )
        normalizer.kernel = kernel
        put_one(layer, normalizer.train(layer.training))
    remember(model, Placed(config=config, places=places, before=before))
    keep_others_as_they_were(model, [layer_of(model, place) for place in places], before)


def place_saved(model: Any, raw: dict[str, Any]) -> None:
    """The normalizers that a config.json names; their numbers are loaded afterwards."""
    names = [field.name for field in fields(Place)]
    places = tuple(Place(**{n: one[n] for n in names if n in one}) for one in raw["modules"])
    before = implementations(model)
    switch(model)
    put(model, normalizer_config(raw["normalizer"]), places, before)


def remember(model: Any, state: Placed) -> None:
    """What is in place, on the model."""
    vars(model)[_KEY] = state
    # Loading in half precision leaves the learned numbers in float32.
    strict = set(model._keep_in_fp32_modules_strict or ())
    model._keep_in_fp32_modules_strict = strict | _wide(state.places)
    watch(model, [place.name for place in state.places])


def put_one(layer: nn.Module, normalizer: LearnedNormalizer) -> None:
    """A normalizer into its layer."""
    layer.normalizer = normalizer
    if normalizer.config.reads_hidden:
        normalizer.hook = layer.register_forward_pre_hook(note_hidden, with_kwargs=True)


def clear(model: Any) -> None:
    """All normalizers out of a model; implementations and class stay as they are."""
    for layer, normalizer in normalizers(model):
        if normalizer.hook is not None:
            normalizer.hook.remove()
            normalizer.hook = None
        del layer.normalizer
    unwatch(model)
    state = vars(model).pop(_KEY, None)
    if state is not None:
        strict = set(model._keep_in_fp32_modules_strict or ())
        model._keep_in_fp32_modules_strict = strict - _wide(state.places)


def normalizers(model: nn.Module) -> list[tuple[Any, LearnedNormalizer]]:
    """Every layer that has a normalizer, with it."""
    pairs = [(layer, layer._modules.get("normalizer")) for layer in model.modules()]
    return [(layer, part) for layer, part in pairs if isinstance(part, LearnedNormalizer)]


def layer_of(model: Any, place: Place) -> nn.Module:
    """The layer at a place."""
    try:
        return model.get_submodule(place.name)
    except AttributeError as error:
        raise WideneckError(
            f"{type(model).__name__} has no attention layer {place.name!r}, where a normalizer "
            "belongs: the config does not fit the model."
        ) from error


def implementations(model: Any) -> list[tuple[Any, Any]]:
    """Every config of a model and of its parts, with its attention implementation."""
    waiting = [m.config for m in model.modules() if hasattr(m, "config")]
    found: dict[int, Any] = {}
    while waiting:
        config = waiting.pop()
        if id(config) in found or not hasattr(config, "_attn_implementation_internal"):
            continue
        found[id(config)] = config
        waiting += [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    return [(config, config._attn_implementation_internal) for config in found.values()]


def restore_implementations(before: list[tuple[Any, Any]]) -> None:
    """Set each config's implementation, as `implementations` has read it."""
    for config, implementation in before:
        config._attn_implementation_internal = implementation


def switch(model: Any, implementation: str = NAME) -> None:
    """Have transformers call the attention function of that name."""
    name = type(model).__name__
    try:
        with quiet_transformers():
            model.set_attn_implementation(implementation)
    except (ValueError, ImportError) as error:
        raise WideneckError(
            f"{name} takes no attention but its own ({error}), so no normalizer can be set."
        ) from error
    if model.config._attn_implementation != implementation:
        raise WideneckError(
            f"{name} does not go through the attention interface of transformers, so no "
            "normalizer can be set: use a model that supports set_attn_implementation."
        )


def keep_others_as_they_were(model: Any, layers: list[nn.Module], before: list) -> None:
    """A part without one of our layers, such as an image encoder, keeps its implementation."""
    ours: set[int] = set()
    others: dict[int, Any] = {}
    for module in model.modules():
        if not hasattr(module, "config"):
            continue
        parts = set(module.modules())
        if any(layer in parts for layer in layers):
            ours.add(id(module.config))
        elif isinstance(module, PreTrainedModel):
            others[id(module.config)] = module.config
    for config, implementation in before:
        if id(config) in others and id(config) not in ours:
            config._attn_implementation_internal = implementation


def _wide(places: tuple[Place, ...]) -> set[str]:
    return {rf"{place.name}.normalizer.".replace(".", r"\.") for place in places}
