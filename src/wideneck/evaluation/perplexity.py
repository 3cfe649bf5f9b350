"""Perplexity and bits per byte, with the conventions that they depend on.

Loss in nats a token, exp of it, and the same information in bits for each byte of the text, the one
of the three that compares models of different tokens.  Cost: one pass over the text, the loss fused
by the head.
"""

import math
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.evaluation.streaming import SEGMENT, Reading, stream
from wideneck.models.small.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """How well a text is predicted."""

    loss: float = measure("mean of -log p(token | what was read before it)", unit="nats")
    perplexity: float = measure("exp(loss)")
    num_tokens: int = measure("tokens predicted", unit="tokens")
    bits_per_byte: float | None = measure(
        "loss times num_tokens / log(2) / UTF-8 bytes of the predicted tokens; none where the "
        "bytes are not known or none",
        caution="too low where the vocabulary replaces words by <unk>, whose bytes nobody pays for",
    )
    conventions: str = measure("how the text was cut, and which of its tokens were predicted")

    @classmethod
    def of(
        cls, nats: float, num_tokens: int, conventions: str, num_bytes: int | None
    ) -> "Perplexity":
        """From the sum of the losses.

        Raises:
            WideneckError: the sum is not finite.
        """
        if not math.isfinite(nats):
            raise WideneckError(
                f"The model's loss on this text is {nats}: its weights, or its states, are not "
                "finite.  Evaluate an earlier checkpoint, or in a wider dtype."
            )
        loss = nats / num_tokens
        return cls(
            loss=loss,
            perplexity=math.exp(min(loss, 700.0)),  # beyond, float64 overflows
            num_tokens=num_tokens,
            bits_per_byte=nats / math.log(2) / num_bytes if num_bytes else None,
            conventions=conventions,
        )


@torch.no_grad()
def static_perplexity(
    model: LanguageModel,
    ids: Tensor,
    *,
    batch_size: int,
    segment: int = SEGMENT,
    num_bytes: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """The model as it is, on the text `ids` (N,), read as `stream` says.

    Args:
        ids: (N,) token ids.
        batch_size: rows or windows at a time; the papers take 10 for the validation text and 1 for
            the test text.
        segment: tokens of a segment, where the backbone carries a state.
        num_bytes: UTF-8 bytes of the tokens that `Reading.predicted` names, for bits per byte;
            `wideneck.data.token_bytes` has those of every token.
        progress: as in `stream`.

    Raises:
        WideneckError: as `stream`; the loss is not finite.
    """
    reading = Reading.of(model, ids, batch_size=batch_size, segment=segment)
    nats = 0.0
    pieces = stream(model, ids, batch_size=batch_size, segment=segment, progress=progress)
    with closing(pieces):
        for hidden, target in pieces:
            nats += total(model.head.nll(hidden, target))
    return Perplexity.of(nats, reading.num_predicted, reading.conventions, num_bytes)


def total(losses: Tensor) -> float:
    """Their sum in float64."""
    return losses.cpu().double().sum().item()  # first to the CPU: not every device has float64
