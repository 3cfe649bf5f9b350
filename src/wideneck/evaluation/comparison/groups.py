"""Kinds of tokens: how often one stands in the text, where, after what, and in which part of a word.

Shapes: W windows of T predictions, P ids in front of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.data import Text, Vocabulary, Windows
from wideneck.data.tokenizing import ids_and_ends

COUNTED = 4_000_000
"""Characters of the text beside the windows' own documents whose tokens are counted."""
FEW = (0, 1, 10, 100, 1000)
PLACES = (0, 8, 64, 512)
"""Where a range of counts, and one of positions, begins."""


@dataclass(frozen=True)
class Kind:
    """Some of the predictions."""

    of: str
    """What sets them apart: "count", "position", "context" or "word"."""
    name: str
    members: Tensor
    """(W, T) bool."""


def kinds(text: Text, windows: Windows, tokenizer: Any) -> Iterator[Kind]:
    """Every kind that has a member, each prediction in one of each sort.

    Args:
        text: where the windows come from.
        windows: without a prefix.
        tokenizer: of the ids.
    """
    counts = counts_elsewhere(text, windows, tokenizer)[windows.targets]
    place = torch.arange(windows.targets.shape[1]).expand_as(windows.targets)
    seen = in_context(windows)
    later = continuing(windows, tokenizer)
    found = [
        *_ranges("count", counts, FEW),
        *_ranges("position", place + 1, [start + 1 for start in PLACES]),
        Kind("context", "in the window before", seen),
        Kind("context", "new in the window", ~seen),
        Kind("word", "first piece of a word", ~later),
        Kind("word", "later piece of a word", later),
    ]
    yield from (kind for kind in found if kind.members.any())


def counts_elsewhere(text: Text, windows: Windows, tokenizer: Any) -> Tensor:
    """How often each id stands in the text outside of the windows, (V',) int64.

    Of a long text, in the documents of the windows and in `COUNTED` characters of others.
    """
    own, room = set(windows.document.tolist()), COUNTED
    size = int(max(windows.ids.max(), windows.targets.max())) + 1
    counts = torch.zeros(size, dtype=torch.long)
    for number, document in enumerate(text.documents):
        if number not in own:
            if room <= 0:
                continue
            document = document[:room]
            room -= len(document)
        if isinstance(tokenizer, Vocabulary):
            ids = tokenizer.encode(document).long()
        else:
            ids = torch.from_numpy(ids_and_ends(tokenizer, document, text.name)[0]).long()
        counts += torch.bincount(ids[ids < size], minlength=size)
    inside = torch.cat([windows.ids[:, :1], windows.targets], dim=1)
    return (counts - torch.bincount(inside.flatten(), minlength=size)).clamp_min(0)


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


def _ranges(of: str, numbers: Tensor, starts: Sequence[int]) -> Iterator[Kind]:
    """One kind for each range of whole numbers; the last one has no end."""
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        members = numbers >= start
        if stop is not None:
            members &= numbers < stop
        yield Kind(of, _range(start, stop), members)


def _range(start: int, stop: int | None) -> str:
    if stop is None:
        return f"{start:,} or more"
    return f"{start:,}" if stop == start + 1 else f"{start:,} to {stop - 1:,}"
