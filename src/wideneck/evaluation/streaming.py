"""A text read once by a small language model: which tokens are read together, which are predicted.

A backbone that carries a state (`context` None) reads B rows of consecutive text side by side, cut
into segments; the state goes on from one to the next, so that a segment's length changes nothing
but memory (Merity et al. 2018, as in awd-lstm-lm).  Every token after the first of its row is
predicted; up to B - 1 tokens at the end of the text, which do not fill the rows, are left out.

A backbone with a window of T tokens reads x[s : s + T] for s = 0, T, 2T, ... with x[s + 1 :
s + T + 1] as its targets, each window anew: every token of the text but its first is predicted, by
what its own window holds before it.  B windows are read at a time, a shorter last one alone.

Shapes: N tokens of text, B rows or windows, T tokens of a segment or window, D hidden size.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.models import evaluating
from wideneck.models.small.language_model import LanguageModel

SEGMENT = 70
"""Tokens of a segment where nobody says otherwise: a segment's length changes no result."""


@dataclass(frozen=True)
class Reading:
    """A text, and how it is cut.  An iterator of (input (B, T), target (B, T)) in the text's order.

    Raises:
        WideneckError: the text is no vector of token ids of the model, or is too short to cut.
    """

    ids: Tensor
    """(N,) token ids."""
    vocab_size: int
    batch_size: int
    segment: int
    """Tokens of a segment, where a state is carried."""
    context: int | None
    """Tokens of a window, where none is."""

    @classmethod
    def of(cls, model: LanguageModel, ids: Tensor, *, batch_size: int, segment: int) -> "Reading":
        """How `model` reads `ids` (N,)."""
        return cls(ids, model.head.vocab_size, batch_size, segment, model.backbone.context)

    def __post_init__(self):
        if self.ids.dim() != 1 or self.ids.is_floating_point():
            raise WideneckError(
                f"A text to evaluate is a vector of token ids, got {self.ids.dtype} of shape "
                f"{tuple(self.ids.shape)}."
            )
        if self.batch_size < 1 or self.segment < 1:
            raise WideneckError(
                f"A text is read in at least 1 row and by at least 1 token, got batch_size = "
                f"{self.batch_size} and segment = {self.segment}."
            )
        if self.num_predicted < 1:
            rows = 1 if self.context else self.batch_size
            raise WideneckError(
                f"The text has {len(self.ids):,} tokens, too few to predict one in each of "
                f"{rows} rows; give a longer text or a smaller batch size."
            )
        low, high = (int(bound) for bound in self.ids.aminmax())
        if low < 0 or high >= self.vocab_size:
            raise WideneckError(
                f"The text has token ids from {low} to {high}, but the model's vocabulary has "
                f"{self.vocab_size:,} tokens; encode it with the model's own vocabulary."
            )

    @property
    def num_predicted(self) -> int:
        """Tokens that are predicted."""
        if self.context:
            return len(self.ids) - 1
        return self.batch_size * (len(self.ids) // self.batch_size - 1)

    @property
    def predicted(self) -> Tensor:
        """(N,) bool: the tokens of the text that are predicted."""
        place = torch.arange(len(self.ids))
        if self.context:
            return place > 0
        length = len(self.ids) // self.batch_size
        return (place % length > 0) & (place < self.batch_size * length)

    @property
    def conventions(self) -> str:
        """The cut in words, for a report."""
        if self.context:
            return (
                f"non-overlapping windows of {self.context} tokens, each read anew; every token "
                "of the text after its first is predicted"
            )
        return (
            f"{self.batch_size} row{'s' * (self.batch_size > 1)} of consecutive text, the state "
            "carried from the start to the end; every token after the first of its row is "
            f"predicted; {len(self.ids) % self.batch_size} tokens at the end of the text, which "
            "do not fill the rows, are left out"
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        B, N = self.batch_size, len(self.ids)
        if not self.context:
            rows = self.ids[: N // B * B].view(B, -1)
            for start in range(0, rows.shape[1] - 1, self.segment):
                piece = rows[:, start : start + self.segment + 1].long()
                yield piece[:, :-1], piece[:, 1:]
            return
        T = self.context
        whole = (N - 1) // T
        windows = self.ids[: whole * T].view(whole, T)
        targets = self.ids[1 : whole * T + 1].view(whole, T)
        if whole:
            for inputs, target in zip(windows.split(B), targets.split(B), strict=True):
                yield inputs.long(), target.long()
        if whole * T < N - 1:
            rest = self.ids[None, whole * T :].long()
            yield rest[:, :-1], rest[:, 1:]


@torch.no_grad()
def stream(
    model: LanguageModel,
    ids: Tensor,
    *,
    batch_size: int,
    segment: int = SEGMENT,
    progress: Progress | None = None,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """What enters the head, and what it should predict, in the order of the text.

    The model is in eval mode until the iterator ends or is closed (`contextlib.closing` does so
    after an error, too), and then in its own modes again; gradients are off inside it only.

    Args:
        ids: (N,) token ids.
        batch_size: B, rows or windows at a time.
        segment: tokens of a segment, where the backbone carries a state.
        progress: called as progress("reading the text", predictions done, predictions in all).

    Yields:
        The hidden states (B, T, D) and their targets (B, T), on the model's device.

    Raises:
        WideneckError: as `Reading`.
    """
    reading = Reading.of(model, ids, batch_size=batch_size, segment=segment)
    device = model.backbone.embedding.weight.device
    state: list[Tensor] = []
    done = 0
    with evaluating(model):
        for inputs, target in reading:
            output = model.backbone(inputs.to(device), state)
            state = output.state
            yield output.hidden, target.to(device)
            done += target.numel()
            if progress:
                progress("reading the text", done, reading.num_predicted)


def spread_contexts(
    model: LanguageModel,
    ids: Tensor,
    num_contexts: int,
    *,
    batch_size: int,
    segment: int = SEGMENT,
    progress: Progress | None = None,
) -> Tensor:
    """What enters the head at `num_contexts` places at equal distances over the text, or at all.

    One pass over the whole text `ids` (N,), read as `stream` says, whose arguments and errors these
    are.  The distances are in the order in which `stream` gives the tokens.

    Returns:
        (n, D), on the model's device.
    """
    reading = Reading.of(model, ids, batch_size=batch_size, segment=segment)
    num = min(num_contexts, reading.num_predicted)
    picked = torch.linspace(0, reading.num_predicted - 1, num, dtype=torch.float64).round().long()
    taken: list[Tensor] = []
    start = 0
    pieces = stream(model, ids, batch_size=batch_size, segment=segment, progress=progress)
    with closing(pieces):
        for hidden, target in pieces:
            here = picked[(picked >= start) & (picked < start + target.numel())] - start
            taken.append(hidden.flatten(0, 1)[here.to(hidden.device)])
            start += target.numel()
    return torch.cat(taken)
