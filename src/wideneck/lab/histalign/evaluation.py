"""A trained model on the test prompts: what it and its two sides predict, and the rank of both.

A prompt is correct at k where both its words are among the k best next tokens (Wan et al. 2023,
section 5.1, table 1), and a word is where any of its ids is: the first piece of " w" or of "w".  So
nothing is correct at 1, unless both words begin with the same piece.  Ties count against the model:
an id stands behind all others of equal score, and one that a cache does not hold (-inf) is never
among the best.  Prompts of equal length go through the model together, so nothing is padded.
Letters: N prompts, V vocabulary, A ids a word.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from wideneck.attached.memory_views import Views, three_ways
from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import Task
from wideneck.models import evaluating

NUMBERS = 2**24
"""Log-probabilities of one distribution that are held at a time: 64 MB."""
VIEWS = ("full", "model", "cache")
KS = (1, 2, 5, 10, 25, 50, 75, 100)
"""The k of the released evaluation; the paper prints 2, 5, 10 and 25."""
NEVER = torch.iinfo(torch.int64).max
"""The k that a prompt needs where one of its words is not found at any."""


@torch.no_grad()
def evaluate(model: Any, task: Task, num_rank_rows: int) -> dict[str, Any]:
    """Measure at the position after each prompt, and the rank at all positions of some.

    Cost: one forward of all prompts, and 2 N^2 V operations for each rank, N `num_rank_rows`.

    Returns:
        Fields of `runs.Run`, by name.
    """
    needed: dict[str, list[Tensor]] = {view: [] for view in VIEWS}
    means: dict[str, list[Tensor]] = {"memory_share": [], "loss": [], "loss_model": []}
    ranked: dict[str, list[Tensor]] = {"rank": [], "rank_model": []}
    targets = torch.tensor(task.targets)
    ends = list(accumulate(map(len, task.prompts)))
    with evaluating(model):
        for at, views in _viewed(model, task.prompts, slice(-1, None)):
            for view in VIEWS:
                log_probs = getattr(views, view)[:, 0].cpu()
                needed[view].append(needed_k(log_probs, task.first[at], task.second[at]))
            means["memory_share"].append(views.memory_share.cpu())
            means["loss"].append(-views.full[:, 0].cpu().gather(1, targets[at]))
            means["loss_model"].append(-views.model[:, 0].cpu().gather(1, targets[at]))
        enough = task.prompts[: bisect_left(ends, num_rank_rows) + 1]
        for _, views in _viewed(model, enough, slice(None)):
            ranked["rank"].append(views.full.flatten(0, 1).cpu())
            ranked["rank_model"].append(views.model.flatten(0, 1).cpu())
    accuracies = {view: accuracy_at_k(torch.cat(some)) for view, some in needed.items()}
    return {
        **{v: {str(k): 100 * share for k, share in some.items()} for v, some in accuracies.items()},
        **{name: torch.cat(some).double().mean().item() for name, some in means.items()},
        **{name: numerical_rank(torch.cat(some)[:num_rank_rows]) for name, some in ranked.items()},
        "rank_rows": min(num_rank_rows, ends[len(enough) - 1]),
    }


def _viewed(
    model: Any, prompts: Sequence[list[int]], keep: slice
) -> Iterator[tuple[list[int], Views]]:
    """Batches of prompts of equal length: their places, and the model's three distributions."""
    vocab_size, device = model.config.get_text_config().vocab_size, model.device
    of_length: dict[int, list[int]] = {}
    for place, ids in enumerate(prompts):
        of_length.setdefault(len(ids), []).append(place)
    for length, places in of_length.items():
        positions = len(range(length)[keep])
        batch = max(1, NUMBERS // (vocab_size * positions))
        for start in range(0, len(places), batch):
            at = places[start : start + batch]
            ids = torch.tensor([prompts[place] for place in at], device=device)
            yield at, three_ways(model, ids, keep=keep)


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
