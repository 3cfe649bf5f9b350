"""A model with a memory seen in three ways: the mixture, the model alone and its memory alone.

What an evaluation wants of one forward: the loss and `logits` are of the mixture only.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.attached.memory_call import MemoryCall
from wideneck.attached.memory_model import MemoryModel, Mixed
from wideneck.attached.memory_sources import OwnHistory
from wideneck.attached.model import original_class
from wideneck.attached.swap import placed_memory
from wideneck.errors import WideneckError
from wideneck.memory.mixture import log_shares, masked_logsumexp, over_vocabulary
from wideneck.memory.scores import similarities


@dataclass(frozen=True)
class Views:
    """Natural logarithms of three distributions over the vocabulary, (B, Q, V) each."""

    full: Tensor
    """The mixture's, which the model's `logits` are."""
    model: Tensor
    """Those of the output layer alone."""
    cache: Tensor
    """Those of the memory alone; -inf for what it does not hold, everywhere where it is empty."""
    memory_share: Tensor
    """(B, Q), the part of the mixture's probability that comes from the memory."""


@torch.no_grad()
def three_ways(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None = None, *, keep: Any = slice(None)
) -> Views:
    """Run a causal language model with a memory once, and give each part of its prediction.

    Args:
        model: of `wideneck.attach_memory`, in the mode that is wanted (`model.eval()`).
        input_ids: (B, T).
        attention_mask: (B, T), 0 for padding; None for none.
        keep: index of the Q positions that are looked at, such as slice(-1, None) for the last.

    Cost: the model's forward, and 3 B Q V numbers.
    """
    if not isinstance(model, MemoryModel) or model.config.is_encoder_decoder:
        raise WideneckError(
            f"three_ways is for a causal language model with a memory, got "
            f"{type(model).__name__}: call wideneck.attach_memory(model) first."
        )
    memory: Any = placed_memory(model)
    head: Any = model.get_output_embeddings()
    options: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
    source = OwnHistory(model, memory.config, options, None)
    wants_normalizer = memory.config.scores == "logits"
    call = MemoryCall(head, None, -100, keep, wants_normalizer)
    result = model._ask(call, original_class(type(model)).forward, {**options, "use_cache": False})
    assert call.hidden is not None
    assert call.log_probs is not None
    shown = source.shown(result, call.hidden)
    s, _ = memory(similarities(call.hidden[:, keep], shown.keys))
    visible = shown.visible[:, keep]
    mixed = Mixed.kept(memory.config, call, s, visible, shown.values)
    log_all = masked_logsumexp(s, visible)
    _, share = log_shares(memory.config, log_all, call.kept_log_normalizer)
    cache = over_vocabulary(mixed.cache, mixed.ids, call.log_probs.shape[-1])
    return Views(mixed.logits, mixed.model, cache, share.exp())
