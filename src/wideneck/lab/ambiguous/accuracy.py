"""Accuracy at k of the ambiguous-template task (Wan et al. 2023, section 5.1, table 1).

A prompt is correct at k where both its words are among the k best next tokens, and a word is
where any of its ids is: the first piece of " w" or of "w".  So nothing is correct at 1, unless
both words begin with the same piece.  Ties count against the model: an id stands behind all
others of equal score, and one that a cache does not hold (-inf) is never among the best.
Letters: N prompts, V vocabulary, A ids a word.
"""

import torch
from torch import Tensor

from wideneck.errors import WideneckError

KS = (1, 2, 5, 10, 25, 50, 75, 100)
"""The k of the released evaluation; the paper prints 2, 5, 10 and 25."""

NEVER = torch.iinfo(torch.int64).max
"""The k that a prompt needs where one of its words is not found at any."""


@torch.no_grad()
def needed_k(log_probs: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The smallest k (N,) at which each prompt is correct, or `NEVER`.

    Nothing is sorted: the scores above a word's best are counted.  Cost: N V comparisons a word,
    and N V booleans in memory.

    Args:
        log_probs: (N, V) scores of the next token, normalized or not; -inf for none.
        first, second: (N, A) int64, the ids of the two words, padded with -1; see `accepted_ids`.
    """
    if log_probs.ndim != 2:
        raise WideneckError(
            f"needed_k wants log_probs of shape (N, V), got {tuple(log_probs.shape)}."
        )
    ranks = [_rank(log_probs, ids) for ids in (first, second)]
    return torch.maximum(*ranks)


def accuracy_at_k(needed: Tensor) -> dict[int, float]:
    """Share of prompts that are correct at each of `KS`, from the (N,) of `needed_k`."""
    if not len(needed):
        raise WideneckError("An accuracy needs at least one prompt, got none.")
    return {k: (needed <= k).double().mean().item() for k in KS}


def _rank(log_probs: Tensor, ids: Tensor) -> Tensor:
    """(N,): how many ids score no less than the best of `ids`, itself included."""
    N, V = log_probs.shape
    if ids.ndim != 2 or len(ids) != N or not ids.shape[1] or ids.dtype != torch.int64:
        raise WideneckError(
            f"The ids of the words of {N} prompts must be int64 of shape ({N}, A) with A >= 1, got "
            f"{ids.dtype} of shape {tuple(ids.shape)}."
        )
    if N and (ids.max() >= V or ids.min() < -1):
        raise WideneckError(
            f"The ids of words go from {ids.min()} to {ids.max()}, but log_probs has {V} columns; "
            "use the tokenizer of the model that gave the scores."
        )
    padding = ids < 0
    scores = log_probs.gather(1, ids.clamp_min(0)).masked_fill(padding, -torch.inf)
    best = scores.amax(1, keepdim=True)
    # Not `>=`: a NaN is neither above nor below, and must not make a word look better.
    rank = V - (log_probs < best).sum(1)
    return rank.masked_fill(~(best[:, 0] > -torch.inf), NEVER)
