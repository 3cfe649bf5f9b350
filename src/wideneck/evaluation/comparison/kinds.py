"""Kinds of tokens: how often one stands in the text, where, after what, in which part of a word.

Shapes: W windows of T predictions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.data import Text, Vocabulary, Windows
from wideneck.data.counts import counts_elsewhere, ranges

FEW = (0, 1, 10, 100, 1000)
PLACES = (1, 9, 65, 513)
"""Where a range of counts, and one of positions, begins."""


@dataclass(frozen=True)
class Kind:
    """Some of the predictions."""

    sort: str
    """What sets them apart: "count", "position", "context" or "word"."""
    name: str
    members: Tensor
    """(W, T) bool."""


def kinds(text: Text, windows: Windows, tokenizer: Any) -> Iterator[Kind]:
    """Every kind that has a member; each prediction is in one of each sort.

    Args:
        text: where the windows come from.
        windows: without a prefix.
        tokenizer: of the ids.
    """
    ids, targets = windows.ids, windows.targets
    size = int(max(ids.max(), targets.max())) + 1
    counts = counts_elsewhere(text, tokenizer, size, targets, windows.document)[targets]
    place = torch.arange(1, targets.shape[1] + 1).expand_as(targets)
    for sort, numbers, starts in (("count", counts, FEW), ("position", place, PLACES)):
        yield from (Kind(sort, name, mask) for name, mask in ranges(numbers, starts))
    seen, later = in_context(windows), continuing(windows, tokenizer)
    for sort, name, mask in (
        ("context", "in the window before", seen),
        ("context", "new in the window", ~seen),
        ("word", "first piece of a word", ~later),
        ("word", "later piece of a word", later),
    ):
        if mask.any():
            yield Kind(sort, name, mask)


def in_context(windows: Windows) -> Tensor:
    """(W, T): whether the target stands before itself in its window."""
    rows = []
    for ids, targets in zip(windows.ids, windows.targets, strict=True):
        same = targets[:, None] == ids[None, :]  # T x T, and of one window only
        rows.append(same.tril(ids.numel() - targets.numel()).any(1))
    return torch.stack(rows)


def continuing(windows: Windows, tokenizer: Any) -> Tensor:
    """(W, T): whether a target begins with a letter or digit that follows one in the text."""
    if isinstance(tokenizer, Vocabulary):
        return torch.zeros_like(windows.targets, dtype=torch.bool)
    pairs = torch.stack([windows.ids[:, -windows.targets.shape[1] :], windows.targets], dim=-1)
    unique, index = pairs.flatten(0, 1).unique(dim=0, return_inverse=True)
    before = _decoded(tokenizer, unique[:, :1].tolist())
    both = _decoded(tokenizer, unique.tolist())
    found = [
        a[-1:].isalnum() and b[len(a) : len(a) + 1].isalnum()
        for a, b in zip(before, both, strict=True)
    ]
    return torch.tensor(found)[index].view_as(windows.targets)


def _decoded(tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    return tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
