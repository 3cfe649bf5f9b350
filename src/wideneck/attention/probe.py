"""Looks at a model before and after its attention function is changed, on a few random tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.attention.learned import note_hidden, take_hidden
from wideneck.errors import WideneckError
from wideneck.models import ask, evaluating
from wideneck.models.positions import max_positions

NUM_TOKENS = 12
"""Or, where layers see a window or chunk of fewer than `LONGEST` tokens, some more than those."""
LONGEST = 512
WINDOWS = ("sliding_window", "attention_chunk_size")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answers: logits, or its last hidden states, (1, T, V)."""

    plain: Tensor
    other_end: Tensor
    """With another last token."""
    padded: Tensor
    """With padding on the left, which is cut off here."""

    @property
    def leak(self) -> float:
        """How much the last token moves what comes before it; 0 in a causal model."""
        return distance(self.other_end[:, :-1], self.plain[:, :-1])


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
    """Run the model in eval mode on random token ids; the global random state is left alone.

    Raises:
        WideneckError: it does not take token ids, or gives numbers that are not finite.
    """
    ids = _token_ids(model)
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % _vocab_size(model)
    num_padded = ids.shape[1] // 4
    mask = torch.ones_like(ids)
    padded_mask = mask.clone()
    padded_mask[:, :num_padded] = 0
    with evaluating(model):
        result = Answers(
            plain=_run(model, ids, mask),
            other_end=_run(model, other, mask),
            padded=_run(model, ids, padded_mask)[:, num_padded:],
        )
    if not all(x.isfinite().all() for x in (result.plain, result.padded)):
        raise WideneckError(
            f"{type(model).__name__} gives numbers that are not finite on random tokens, so no "
            "normalizer can be checked on it."
        )
    return result


@torch.no_grad()
def widths(model: Any, layers: list[nn.Module]) -> dict[nn.Module, int]:
    """The width of the hidden states that enter each of the layers.

    Raises:
        WideneckError: what enters is not of shape (B, T, width).
    """
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
    result = ask(model, input_ids=ids, attention_mask=mask, use_cache=False)
    logits = getattr(result, "logits", None)
    logits = result[0] if logits is None else logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _token_ids(model: Any) -> Tensor:
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in WINDOWS]
    small = [w for w in windows if isinstance(w, int) and 0 < w < LONGEST]
    length = max([NUM_TOKENS, *(w + NUM_TOKENS // 2 for w in small)])
    length = min(length, max_positions(model) or length)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(_vocab_size(model), (1, length), generator=generator)
    return ids.to(model.get_input_embeddings().weight.device)


def _vocab_size(model: Any) -> int:
    return model.get_input_embeddings().weight.shape[0]
