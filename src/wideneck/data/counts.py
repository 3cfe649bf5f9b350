"""How often tokens stand in a text, outside of what a measurement reads of it.

Cost: the text is tokenized once, some million characters a second; 8 bytes an id.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wideneck.data.text import Text
from wideneck.data.tokenizing import ids_and_ends
from wideneck.data.vocabulary import Vocabulary

COUNTED = 4_000_000
"""Characters of the text that are counted beside the documents that were read."""


def counts_elsewhere(
    text: Text, tokenizer: Any, vocab_size: int, targets: Tensor, document: Tensor
) -> Tensor:
    """How often each id stands in the text outside of some windows, (V,) int64.

    Args:
        text: where the windows come from; of a long one the documents of the windows are counted,
            and `COUNTED` characters of others.
        tokenizer: a fast Hugging Face tokenizer, or a `Vocabulary`.
        vocab_size: V; larger ids are left out.
        targets: (W, T), the predictions of the windows, which do not count.
        document: (W,), the documents that the windows come from.

    Raises:
        WideneckError: the tokenizer fails.
    """
    own, room = set(document.tolist()), COUNTED
    counts = torch.zeros(vocab_size, dtype=torch.long)
    for number, content in enumerate(text.documents):
        if number not in own:
            if room <= 0:
                continue
            content = content[:room]
            room -= len(content)
        if isinstance(tokenizer, Vocabulary):
            ids = tokenizer.encode(content).long()
        else:
            ids = torch.from_numpy(ids_and_ends(tokenizer, content, text.name)[0]).long()
        counts += torch.bincount(ids[ids < vocab_size], minlength=vocab_size)
    inside = torch.bincount(targets.cpu().flatten(), minlength=vocab_size)[:vocab_size]
    return (counts - inside).clamp_min_(0)


def ranges(numbers: Tensor, starts: Sequence[int]) -> list[tuple[str, Tensor]]:
    """Whole numbers by size: a name and a mask for each range that has any; the last has no end."""
    found = []
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        mask = numbers >= start if stop is None else (numbers >= start) & (numbers < stop)
        if mask.any():
            name = f"{start:,} or more" if stop is None else f"{start:,} to {stop - 1:,}"
            found.append((f"{start:,}" if stop == start + 1 else name, mask))
    return found
