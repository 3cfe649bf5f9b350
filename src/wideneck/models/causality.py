"""Whether a model reads from left to right: no later token may change what it says earlier.

BERT and its kind see both sides of a position unless their config makes them decoders, and XLNet
does unless it is told an order.  They have the classes of causal language models all the same, and
a perplexity of theirs is one of tokens that they have seen.  So a model is run on a few random
tokens and on the same with one of them changed: the second, the middle or the last.  What stands
before the change must stay as it is; a part that is read from both sides holds the second token,
or the last.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.models.asking import ask, evaluating, running
from wideneck.models.device_map import input_device
from wideneck.models.positions import max_positions

NUM_TOKENS = 12
EXACT = 1e-4
"""A share of what the change moves behind it.  Causal models move nothing before it, to the bit;
untrained ones of BERT's kind a thousandth and more."""
ROUNDINGS = 8
"""A router of experts sorts a token beside others, so that its sums are rounded otherwise: as often
in a sequence without a change, by which that is measured."""


@dataclass(frozen=True, kw_only=True)
class LookAhead:
    """What a model answers, and how far later tokens reach back."""

    answers: Tensor
    """(1, T, ...) to the tokens without a change."""
    share: float
    """The largest move before a change over the one behind it, each a root mean square."""
    rounding: float
    """The move of a sequence without a change in the same pass, in the same unit."""

    @property
    def sees_later(self) -> bool:
        """Whether a later token reaches back, beyond rounding."""
        return self.share > max(EXACT, ROUNDINGS * self.rounding)


@torch.no_grad()
def look_ahead(
    model: torch.nn.Module, run: Callable[[Tensor], Tensor], ids: Tensor, vocab_size: int
) -> LookAhead:
    """Run a model twice on four sequences, the second time with a change in three of them.

    In eval mode, and with the same random numbers both times, for models that draw some; modes and
    the random state are as before afterwards.

    Args:
        model: whose mode is kept.
        run: gives what is compared, (B, T, ...), for token ids (B, T).
        ids: (1, T), T of 2 or more for a verdict.
        vocab_size: ids are below it.

    Raises:
        WideneckError: as `run`.
    """
    num_tokens = ids.shape[1]
    places = [t for t in (1, num_tokens // 2, num_tokens - 1) if 0 < t < num_tokens]
    ids = ids.repeat(1 + len(places), 1)
    changed = ids.clone()
    for row, place in enumerate(places, start=1):
        changed[row, place] = (changed[row, place] + 1) % vocab_size
    with evaluating(model):
        with _same_draws(input_device(model)):
            answers = run(ids)
        with _same_draws(input_device(model)):
            others = run(changed)
    # A vocabulary may have rows that are never predicted, at -inf both times.
    moved = torch.where(answers == others, 0, answers - others)
    before, behind = [0.0], [0.0]
    for row, place in enumerate(places, start=1):
        before.append(_size(moved[row, :place]))
        behind.append(_size(moved[row, place:]))
    unit = max(*behind, torch.finfo(torch.float64).tiny)
    return LookAhead(answers=answers[:1], share=max(before) / unit, rounding=_size(moved[0]) / unit)


def check_left_to_right(model: Any) -> None:
    """Refuse a model at which a later token changes an earlier logit.

    Args:
        model: of transformers; with an encoder, its decoder is looked at.

    Cost: two forward passes of 4 sequences of 12 tokens.

    Raises:
        WideneckError: it sees later tokens, or does not run on token ids alone.
    """
    ids = probe_ids(model)

    def run(changed: Tensor) -> Tensor:
        inputs = {"input_ids": changed}
        if model.config.is_encoder_decoder:
            inputs = {"input_ids": ids.expand_as(changed), "decoder_input_ids": changed}
        return logits_of(ask(model, **inputs, use_cache=False))

    found = look_ahead(model, run, ids, vocab_size(model))
    if found.sees_later:
        raise WideneckError(
            f"{type(model).__name__} sees the tokens that it is to predict (a later token moves "
            f"the logits before it by {found.share:.2g} of what it moves behind it), so its loss "
            "would be no prediction: give a model that reads from left to right (BERT and its kind "
            "do with is_decoder in their config)."
        )


def probe_ids(model: Any, num_tokens: int = NUM_TOKENS) -> Tensor:
    """(1, T) random token ids where the model takes them, the same each time.

    Args:
        num_tokens: T, where the model has as many positions.
    """
    length = min(num_tokens, max_positions(model) or num_tokens)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size(model), (1, length), generator=generator)
    return ids.to(input_device(model))


def vocab_size(model: Any) -> int:
    """Rows of the input embedding."""
    return _embedding(model).shape[0]


def logits_of(result: Any) -> Tensor:
    """The logits, or of a model without a head its states, in at least float32."""
    logits = getattr(result, "logits", None)
    logits = result[0] if logits is None else logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _embedding(model: Any) -> Tensor:
    with running(model):
        return model.get_input_embeddings().weight


def _size(moved: Tensor) -> float:
    """The root mean square; NaN, which is above nothing, where an answer is no number."""
    return float(moved.double().square().mean().sqrt())


@contextmanager
def _same_draws(device: torch.device) -> Iterator[None]:
    """The same random numbers inside each time, and the global random state as before after it."""
    on_cpu = device.type in ("cpu", "meta")
    places = [] if on_cpu else [device.index or 0]
    with torch.random.fork_rng(places, device_type="cuda" if on_cpu else device.type):
        torch.default_generator.manual_seed(0)
        if not on_cpu:
            there = torch.get_device_module(device)
            with there.device(device):
                there.manual_seed(0)
        yield
