"""What measures of continuations are made of: repetition, and whether they follow from a prompt.

A language model judges the latter.  The states that it compares are those that its last layer
reads: of the 60 validation articles of WikiText-2, they find 73 % of the continuations by their
prompts, the most of all layers.  First tokens, whose states are huge and all alike, are left out.

N prompts or continuations.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 8
"""Texts that are judged at a time."""
WINDOW = 16
"""Tokens that `rep_window` looks back."""
WORD = re.compile(r"[^\W\d_]{2,}")


@torch.no_grad()
def read(judge: Any, ids: Tensor, num_scored: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N, num_scored - 1) of the last tokens but the first of them, and states.

    The states (N, D) are means over all tokens but the first.
    """
    log_probs, states = [], []
    for rows in ids.split(ROWS):
        keep = max(1, num_scored)
        result = judge(
            input_ids=rows, use_cache=False, logits_to_keep=keep, output_hidden_states=True
        )
        states.append(result.hidden_states[-2][:, 1:].mean(1))
        wide = torch.promote_types(result.logits.dtype, torch.float32)
        scores = F.log_softmax(result.logits[:, :-1].to(wide), dim=-1)
        target = rows[:, rows.shape[1] - keep + 1 :]
        log_probs.append(scores.gather(-1, target[..., None])[..., 0])
    return torch.cat(log_probs), torch.cat(states)


def cosines(prompts: Tensor, continuations: Tensor) -> Tensor:
    """(N, N), of every prompt with every continuation, both (N, D), about their means."""
    one, two = (F.normalize(x - x.mean(0), dim=-1) for x in (prompts, continuations))
    return one @ two.T


def others(table: Tensor) -> Tensor:
    """(N,): for each continuation the mean over the prompts of all others, from (N, N)."""
    return (table.sum(0) - table.diag()) / (len(table) - 1)


def others_before(sources: Sequence[Any]) -> list[int | None]:
    """For each source the place of the last before it that is another one; None: all are equal.

    Before the first stands the end.  Several texts may be written from one source, so the
    neighbour need not be another.
    """
    count = len(sources)
    found: list[int | None] = [None] * count
    last: int | None = None
    for i in range(2 * count):  # twice, as the other of the first is near the end
        before, here = (i - 1) % count, i % count
        if sources[before] != sources[here]:
            last = before
        found[here] = last
    return found


def rep_window(tokens: Sequence[int], window: int = WINDOW) -> float:
    """Share of the tokens that stand among the `window` before them (rep-w, Fu et al. 2021)."""
    hits = [token in tokens[max(0, i - window) : i] for i, token in enumerate(tokens)]
    return sum(hits) / len(hits) if hits else 0.0


def common_words(texts: Sequence[str], count: int) -> frozenset[str]:
    """The most frequent words, which say little of what a text is about, and "unk"."""
    counts = Counter(word for text in texts for word in words(text))
    return frozenset([word for word, _ in counts.most_common(count)] + ["unk"])


def words(text: str) -> list[str]:
    """Runs of two letters or more, in lower case."""
    return WORD.findall(text.lower())
