"""`attach_memory`: a cache head for a language model."""

import math
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from wideneck.attached.attaching import check_attachable, put_head
from wideneck.attached.guard import refuse_patched
from wideneck.attached.memory_model import MemoryModel
from wideneck.attached.model import original_class
from wideneck.attached.probe import random_ids
from wideneck.attached.swap import attached_head, map_without_bias, placed_memory, put_memory
from wideneck.config import MoC, Softmax, name_of
from wideneck.errors import WideneckError
from wideneck.memory.config import Memory, memory_config
from wideneck.memory.layer import cache_in
from wideneck.memory.mixture import masked_logsumexp
from wideneck.memory.scores import similarities, visible_history
from wideneck.models import ask, evaluating
from wideneck.models.quiet import quiet_transformers
from wideneck.models.reading import entering_head

SHARE = 0.01
"""The memory's part of the probability at the start, on some 64 tokens of context."""


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
    config = _measured(model, config)
    if attached_head(model) is None:
        put_head(model, Softmax(), {})
    put_memory(model, config)
    model.__class__ = MemoryModel.class_of(original_class(type(model)))
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
                f"scores='logits' needs one score per token, and a {name_of(head.config)} head "
                "mixes distributions: leave it out, for normalized scores."
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


@torch.no_grad()
def _measured(model: Any, config: Memory) -> Memory:
    """The config with a temperature and a bias.  Runs the model once on random tokens.

    Hidden states of one model have scaled dot products near 1, of another in the hundreds; raw,
    they would make the mixture all model or all memory.  The temperature makes their spread 1 and
    the bias gives the memory a hundredth of the probability: enough to have a gradient, too little
    to harm.
    """
    if config.bias is None and config.mixture == "linear":
        config = replace(config, bias=0.0)
    if config.temperature is not None and config.bias is not None:
        return config
    ids = random_ids(model)
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with evaluating(model), entering_head(model) as entering:
        result = ask(model, **inputs, use_cache=False)
    states = entering.only()
    if model.config.is_encoder_decoder:
        keys = result.encoder_last_hidden_state
        visible = torch.ones(*states.shape[:2], keys.shape[1], dtype=torch.bool)
    else:
        keys = states[:, :-1]
        visible = visible_history(torch.ones_like(ids, dtype=torch.bool))
    visible = visible.to(states.device)
    s = similarities(states, keys)
    if not s.isfinite().all():
        raise WideneckError(
            f"{type(model).__name__} gives hidden states that are not finite on random tokens: "
            "load it in a wider dtype, or give temperature and bias."
        )
    if config.temperature is None:
        config = replace(config, temperature=max(float(s[visible].std()), 1e-6))
    if config.bias is None:
        assert config.temperature is not None
        log_all = masked_logsumexp(s / config.temperature, visible)
        if config.scores == "logits":
            head = attached_head(model)
            log_normalizer = (
                result.logits.logsumexp(-1)
                if head is None
                else head.nll_and_log_normalizer(states, torch.zeros_like(ids))[1]
            )
            log_all = log_all - log_normalizer
        odds = float(log_all[visible.any(-1)].mean())
        config = replace(config, bias=math.log(SHARE / (1 - SHARE)) - odds)
    return config
