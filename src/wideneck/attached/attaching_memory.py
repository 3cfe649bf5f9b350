"""`attach_memory`: a cache head for a language model."""

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from wideneck.attached.attaching import check_attachable, put_head
from wideneck.attached.final_bias import map_without_bias
from wideneck.attached.guard import refuse_patched
from wideneck.attached.memory_model import memory_class
from wideneck.attached.memory_place import placed_memory, put_memory
from wideneck.attached.memory_start import measured
from wideneck.attached.model import original_class
from wideneck.attached.probe import random_ids
from wideneck.attached.swap import attached_head
from wideneck.config import MoC, Softmax, name_of
from wideneck.errors import WideneckError
from wideneck.memory.config import Memory, memory_config
from wideneck.memory.layer import cache_in
from wideneck.models import ask, evaluating
from wideneck.models.quiet import quiet_transformers


def attach_memory(model: Any, memory: Memory | dict | None = None, **options: Any) -> Any:
    """Let a language model predict the tokens of its context from the states that led to them.

    The model is changed in place.  Its `logits` become the log-probabilities of the mixture, so
    `generate()` works as it did: the memory rides in the KV cache.  Its loss becomes the memory's,
    so the Trainer of transformers trains it; `wideneck.LogMemory` logs the parts.  A model with an
    encoder remembers the source in place of its own history.

    An output layer of `attach` stays; a plain one becomes wideneck's softmax, with the same
    predictions.  With the measured temperature and bias (the default) the predictions change by
    what a hundredth of the probability can change, until it is trained.

    Args:
        model: of transformers, a causal language model or one with an encoder and a decoder.
        memory: a config or its dictionary; None for the defaults.
        options: fields of `wideneck.Memory`, as in `attach_memory(model, alpha=0.5, window=512)`.

    Returns:
        The model.

    Cost:
        A training step: T^2 D operations for the similarities, and a fourth product of the output
        layer, whose gradients wait for the mixture.  A generated token: T D operations and one
        pass over the vocabulary; T D + 2 T numbers of state a sequence.

    Raises:
        WideneckError: not such a model, one that has a memory, a head or a cache that it cannot
            go with, a forward that somebody has replaced, an option that is unknown or out of
            range.
    """
    config = memory_config(memory, **options)
    _check(model, config)
    _check_cache(model)
    config = measured(model, config)
    if attached_head(model) is None:
        put_head(model, Softmax(), {})
    put_memory(model, config)
    model.__class__ = memory_class(original_class(type(model)))
    return model


def _check(model: Any, config: Memory) -> None:
    name = type(model).__name__
    if isinstance(model, PreTrainedModel) and placed_memory(model) is not None:
        raise WideneckError(
            f"This {name} has a memory already: attach to a model without one, or change the "
            "fields of its config, model.cache_memory.config."
        )
    head = attached_head(model) if isinstance(model, PreTrainedModel) else None
    if head is None:
        check_attachable(model, "attach_memory")
        map_without_bias(model)  # refused before anything else is measured or changed
    else:
        refuse_patched(model, "attach_memory")
        mixes = hasattr(head, "projections") and not isinstance(head.config, MoC)
        if config.scores == "logits" and mixes:
            raise WideneckError(
                f"scores='logits' needs one score a token, and a {name_of(head.config)} head mixes "
                "distributions: leave it out, for normalized scores."
            )
    if not model.config.is_encoder_decoder:
        return
    for option in ("window", "separator"):
        if getattr(config, option) is not None:
            raise WideneckError(
                f"{option} is for a memory of the model's own history; {name} remembers what its "
                "encoder has read, all of it."
            )


@torch.no_grad()
def _check_cache(model: Any) -> None:
    """Refuse a decoder whose own cache is not one that a memory could ride in."""
    if model.config.is_encoder_decoder:
        return
    with evaluating(model), quiet_transformers():
        result = ask(model, input_ids=random_ids(model)[:1, :2], use_cache=True)
    cache = cache_in(result)
    counts = type(cache) is DynamicCache
    if counts and any(isinstance(layer, CacheLayerMixin) for layer in cache.layers):
        return
    came = "none that wideneck knows" if cache is None else f"a {type(cache).__name__}"
    if counts:
        came = "one of recurrent states alone, which does not count its tokens"
    raise WideneckError(
        f"A memory rides in a DynamicCache of transformers, and {type(model).__name__} has {came}: "
        "attach a memory to a model with attention layers."
    )
