"""How a judge reads texts: in batches, of which an answer does not depend.

Texts are padded at their right end, behind a mask, and cut at the right end of the first part
where they are longer than the judge has positions for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.files.boundary import reading
from wideneck.models import ask, evaluating
from wideneck.models.positions import max_positions

ROWS = 8
"""Texts, or pairs of them, that are read at a time."""
MEND = "give a judge with its own tokenizer"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a judge answers to N texts."""

    answers: Tensor
    """(N, ...)."""
    cut: list[bool]
    """Which texts were cut."""


class Reader:
    """A model with its tokenizer.

    Args:
        model: an encoder or a classifier of transformers; its mode is kept.
        tokenizer: the model's own; its sides are set to the right.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        self.limit = max_positions(model)

    def leaves_room(self, text: str) -> bool:
        """Whether the judge has a position for a source before the text."""
        with self._tokenizing():
            num_tokens = len(
                self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            )
            num_tokens += self.tokenizer.num_special_tokens_to_add(pair=True)
        return self.limit is None or num_tokens < self.limit

    @torch.no_grad()
    def read(
        self, texts: Sequence[tuple[str, ...]], answer: Callable[[Any, Tensor], Tensor]
    ) -> Reading:
        """Run the model on all.

        Args:
            texts: at least one; each alone or with a second part, which is never cut.
            answer: takes what the model returns for a batch, and its mask (B, T), to (B, ...).
        """
        with self._tokenizing():
            encoded = self.tokenizer(*_columns(texts), verbose=False).input_ids
        lengths = [len(ids) for ids in encoded]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        found: list[Tensor | None] = [None] * len(texts)
        with evaluating(self.model):
            for at in range(0, len(order), ROWS):
                batch = order[at : at + ROWS]
                inputs = self._inputs([texts[i] for i in batch])
                result = answer(ask(self.model, **inputs), inputs["attention_mask"])
                for i, row in zip(batch, result, strict=True):
                    found[i] = row
        return Reading(
            answers=torch.stack([row for row in found if row is not None]),
            cut=[self.limit is not None and length > self.limit for length in lengths],
        )

    def _inputs(self, texts: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
        with self._tokenizing():
            encoded = self.tokenizer(
                *_columns(texts),
                padding=True,
                truncation=False if self.limit is None else "only_first",
                max_length=self.limit,
                return_attention_mask=True,
                return_tensors="pt",
                verbose=False,
            )
        return {name: value.to(self.model.device) for name, value in encoded.items()}

    def _tokenizing(self) -> Any:
        return reading(type(self.tokenizer).__name__, "a text", MEND)


def _columns(texts: Sequence[tuple[str, ...]]) -> list[list[str]]:
    return [list(column) for column in zip(*texts, strict=True)]
