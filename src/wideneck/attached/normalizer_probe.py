"""Looks at a model before and after its attention function is changed, on a few random tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.attention.learned import note_hidden, take_hidden
from wideneck.errors import WideneckError
from wideneck.models import ask, evaluating
from wideneck.models.causality import NUM_TOKENS, logits_of, look_ahead, probe_ids, vocab_size
from wideneck.models.text_part import text_config

LONGEST = 512
"""Layers may see a window or chunk of fewer tokens than these: then some more than it are taken."""
WINDOWS = ("sliding_window", "attention_chunk_size")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answers: logits, or its last hidden states, (1, T, V)."""

    plain: Tensor
    padded: Tensor
    """With padding on the left, which is cut off here."""
    sees_later: bool
    """Whether a later token moves what comes before it; see `wideneck.models.causality`."""


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The norm of the difference over that of their spread; infinite where one is not finite."""
    if torch.equal(ours, theirs):
        return 0.0
    spread = (theirs - theirs.mean()).norm().clamp(min=torch.finfo(theirs.dtype).tiny)
    result = float((ours - theirs).norm() / spread)
    return result if result == result else float("inf")


def tolerance(model: Any) -> float:
    """What rounding explains: 3e-4 in float32, 0.09 in bfloat16, of the spread of the logits."""
    return torch.finfo(model.dtype).eps ** 0.5


@torch.no_grad()
def answers(model: Any) -> Answers:
    """Run the model in eval mode on random token ids; the global random state is left alone."""
    ids = _token_ids(model)
    num_padded = ids.shape[1] // 4
    padded_mask = torch.ones_like(ids)
    padded_mask[:, :num_padded] = 0
    found = look_ahead(
        model, lambda rows: _run(model, rows, torch.ones_like(rows)), ids, vocab_size(model)
    )
    with evaluating(model):
        padded = _run(model, ids, padded_mask)[:, num_padded:]
    result = Answers(plain=found.answers, padded=padded, sees_later=found.sees_later)
    if not all(x.isfinite().all() for x in (result.plain, result.padded)):
        raise WideneckError(
            f"{type(model).__name__} gives numbers that are not finite on random tokens, so no "
            "normalizer can be checked on it."
        )
    return result


@torch.no_grad()
def widths(model: Any, layers: list[nn.Module]) -> dict[nn.Module, int]:
    """The width of the hidden states (B, T, width) that enter each of the layers."""
    found: dict[nn.Module, int] = {}

    def look(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        note_hidden(layer, args, kwargs)
        hidden = take_hidden(layer)
        if isinstance(hidden, Tensor) and hidden.ndim == 3:
            found[layer] = hidden.shape[-1]

    hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    try:
        with evaluating(model):
            ids = _token_ids(model)
            _run(model, ids, torch.ones_like(ids))
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        if layer not in found:
            raise WideneckError(
                f"asentmax reads the hidden states (B, T, width) that enter attention layers, but "
                f"{type(layer).__name__} of {type(model).__name__} gets something else first."
            )
    return found


def _run(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    return logits_of(ask(model, input_ids=ids, attention_mask=mask, use_cache=False))


def _token_ids(model: Any) -> Tensor:
    config = text_config(model.config)
    windows = [getattr(config, name, None) for name in WINDOWS]
    small = [w for w in windows if isinstance(w, int) and 0 < w < LONGEST]
    return probe_ids(model, max([NUM_TOKENS, *(w + NUM_TOKENS // 2 for w in small)]))
