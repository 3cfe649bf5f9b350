"""`use`: another normalizer in the attention of a model of transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedModel

from wideneck.attached import normalizer_places as p
from wideneck.attached.model import NormalizedModel, original_class
from wideneck.attached.normalizer_probe import Answers, answers, distance, tolerance, widths
from wideneck.attached.own_config import own_config
from wideneck.attention.config import Entmax, Normalizer, Softmax, normalizer_config
from wideneck.attention.learned import check_start, finding
from wideneck.attention.routes import AUTO, check_kernel
from wideneck.errors import WideneckError
from wideneck.models.reading import hearing
from wideneck.models.text_part import text_modules


def use(
    model: Any,
    normalizer: str | dict | Normalizer,
    kernel: str = "auto",
    **parameters: Any,
) -> Any:
    """Change what turns the attention scores of a model into weights, in place.

    Learned numbers become parameters of the attention layers, float32 and one for each head, in
    names such as `model.layers.0.self_attn.normalizer.scale`: build the optimizer afterwards.
    Used again, another normalizer takes the place of the former; `use(model, "softmax")` gives
    the model its own attention back, to the bit.

    Before anything is changed for good, the model is run on a few random tokens: under a softmax
    of ours it must give its own logits, also with padding on the left, and under the normalizer
    no token may see a later one, where none did.  What is written into the config is written into
    the model's own copy.

    Later forwards are watched: where a layer is run and its attention does not come to the
    normalizer, because the layer's forward or the attention implementation has been replaced, they
    stop with a WideneckError.  Not inside compiled graphs.

    Args:
        model: a decoder or encoder of transformers, of a class that goes through its
            AttentionInterface; with a head of `wideneck.attach` or without.
        normalizer: a name in `wideneck.attention.names()`, a config or its dictionary.
        kernel: "auto" for the fastest route of each call, or the one to take: "sdpa", "flex",
            "adasplash" or "dense".  `wideneck.attention.routes_taken` says which a model took and
            why nothing faster.  It is of this machine, and not saved.
        parameters: fields of the config, plain numbers; where the learned ones start.

    A sink that the model has of its own, as gpt-oss has, is one more score of every query, whose
    weight is thrown away: the normalizer acts on n + 1 scores, and its n counts the keys.

    Returns:
        The model.

    Cost: nine forward passes of 12 tokens, or of a window and some more, six of them of four
    sequences at once.  After that calls go by the routes of docs/attention.md; one that asks for
    weights forms all of them, (B, H, Q, K) in float32.

    Raises:
        WideneckError: an unknown normalizer, parameter or kernel, or one that does not do this
            normalizer in this model on this machine; a model that does not go through the
            interface or does more in its attention than a softmax; the model is left as it was.
    """
    check_kernel(kernel)
    config = normalizer_config(normalizer, **parameters)
    check_start(config)
    _check(model)
    if isinstance(config, Softmax):
        if kernel != AUTO:
            raise WideneckError(
                f"A softmax is the model's own attention, and takes no kernel={kernel!r}: use "
                "model.set_attn_implementation, or normalizer='temperature'."
            )
        _take(model)
        return model
    with _all_or_nothing(model):
        _take(model)
        own = answers(model)
        before = p.implementations(model)
        places = _places(model, config, own, kernel)
        p.put(model, config, places, before, kernel)
        if answers(model).sees_later and not own.sees_later:
            raise WideneckError(
                f"Under the normalizer, {type(model).__name__} lets tokens see later ones, which "
                "it did not before, so the normalizer cannot be set."
            )
        if original_class(type(model)) is type(model):
            model.__class__ = NormalizedModel.class_of(type(model))
    return model


def _check(model: Any) -> None:
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        raise WideneckError(
            f"use needs a model of transformers, got {name}: use it before the model is wrapped or "
            "compiled."
        )
    if model.config.is_encoder_decoder:
        raise WideneckError(
            f"{name} has an encoder and a decoder; use takes models of one of them, such as "
            "AutoModelForCausalLM gives."
        )
    if getattr(transformers, name, None) is not original_class(type(model)):
        raise WideneckError(
            f"{name} is not a class of transformers itself, so it could not be loaded again under "
            "a normalizer: use a model that needs no remote code."
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise WideneckError(
            f"This {name} has weights on the meta device: load them before setting a normalizer."
        )


def _take(model: Any) -> None:
    """The model's own attention, and its class, where only the normalizer had changed it."""
    if p.placed(model) is None:
        return
    own_config(model)
    state = p.placed(model)  # which holds configs, too
    assert state is not None
    p.clear(model)
    p.restore_implementations(state.before)
    original = original_class(type(model))
    if type(model) is NormalizedModel.class_of(original):
        model.__class__ = original


@contextmanager
def _all_or_nothing(model: Any) -> Iterator[None]:
    """After an exception inside, the model is what it was, learned numbers included."""
    cls, state, before = type(model), p.placed(model), p.normalizers(model)
    give_configs_back = own_config(model)
    try:
        yield
    except BaseException:
        p.clear(model)
        for layer, normalizer in before:
            p.put_one(layer, normalizer)
        if state is not None:
            p.remember(model, state)
        give_configs_back()
        model.__class__ = cls
        raise


def _places(model: Any, config: Normalizer, own: Answers, kernel: str) -> tuple[p.Place, ...]:
    """The attention layers, found under a softmax of ours that must give the model's answers."""
    name = type(model).__name__
    p.switch(model)
    # By the route that the normalizer will take.
    fused = config.fused and kernel in (AUTO, "sdpa")
    role: Normalizer = Softmax() if fused else Entmax(alpha=1.0, learned=False)
    ran: set[nn.Module] = set()
    candidates = _attentions(model)
    with finding(role) as found, hearing(after=candidates, seen=lambda layer, _: ran.add(layer)):
        ours = answers(model)
    if not found:
        raise WideneckError(
            f"{name} called no attention function of transformers' interface, so no normalizer "
            "can be set."
        )
    _check_all_found(model, found, {layer for layer in candidates if layer not in ran})
    away = max(distance(ours.plain, own.plain), distance(ours.padded, own.padded))
    if away > tolerance(model):
        raise WideneckError(
            f"{name} does more in its attention than a softmax of scaled scores: under one of "
            f"wideneck its logits move by {away:.2g} of their spread, so no normalizer can be set."
        )
    read = widths(model, list(found)) if config.reads_hidden else {}
    names = {module: each for each, module in model.named_modules()}
    p.clear(model)
    return tuple(
        p.Place(name=names[layer], num_heads=num_heads, hidden_size=read.get(layer))
        for layer, num_heads in found.items()
    )


def _attentions(model: Any) -> list[nn.Module]:
    """What transformers calls an attention in the part of a model that reads text."""
    return [
        module
        for module in text_modules(model)
        if type(module).__name__.endswith("Attention")
        and type(module).__module__.startswith("transformers.")
    ]


def _check_all_found(model: Any, found: dict[nn.Module, int], asleep: set[nn.Module]) -> None:
    """Refuse layers of the kinds that were found, or `asleep`, that a later call might run."""
    kinds = {type(layer) for layer in found}
    for name, module in model.named_modules():
        if (type(module) in kinds or module in asleep) and module not in found:
            raise WideneckError(
                f"{type(model).__name__} did not run its attention layer {name!r} on token ids "
                "alone, so no normalizer can be checked there."
            )
