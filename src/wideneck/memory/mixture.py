"""The model's distribution and the memory's as one, in log space.

Letters: B sequences, Q queries, M memories, V vocabulary; s (B, Q, M) are the similarities, with
temperature and bias.  Neither a set of memories that is empty nor a target that is in none of
them gives a NaN, in the values or in the gradients; with an empty memory the mixture is the model.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.memory.config import Memory


def masked_logsumexp(scores: Tensor, mask: Tensor) -> Tensor:
    """Log of the sum of exp(scores) where `mask` holds, over the last dimension.

    An empty sum is -inf, with a gradient of exact zeros: `torch.logsumexp` over -inf has NaN.

    Args:
        scores: (..., M), finite.
        mask: (..., M), broadcast against the scores.
    """
    hidden = scores.masked_fill(~mask, -torch.inf)
    if not hidden.shape[-1]:
        return hidden.sum(-1) - torch.inf
    top = hidden.detach().amax(-1, keepdim=True)
    any_seen = top > -torch.inf
    top = torch.where(any_seen, top, 0)
    total = (hidden - top).exp().sum(-1)  # exp(-inf) is 0, and its gradient is 0, too
    any_seen, top = any_seen.squeeze(-1), top.squeeze(-1)
    return torch.where(any_seen, torch.where(any_seen, total, 1).log() + top, -torch.inf)


@dataclass(frozen=True)
class Recall:
    """What a loss needs of the memory: two sums a query, never one of the vocabulary's size."""

    log_all: Tensor
    """(B, Q), log of the sum over the visible memories; -inf where there are none."""
    log_target: Tensor
    """(B, Q), the same over those whose value is the target; -inf where there are none."""


def recall(s: Tensor, visible: Tensor, values: Tensor, target: Tensor) -> Recall:
    """Sum over memories, and over those of the target.

    Args:
        s: (B, Q, M).
        visible: (B, Q, M).
        values: (B, M), token ids.
        target: (B, Q), token ids; others, such as -100, stand in no memory.
    """
    return Recall(
        masked_logsumexp(s, visible), masked_logsumexp(s, positives(visible, values, target))
    )


def positives(visible: Tensor, values: Tensor, target: Tensor) -> Tensor:
    """(B, Q, M), True for the visible memories of the target (Wan et al. 2023, Eq. 4)."""
    return visible & (values[:, None, :] == target[..., None]) & (target >= 0)[..., None]


def log_shares(
    memory: Memory, log_all: Tensor, log_normalizer: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Logarithms of the shares of the probability that the model and the memory get.

    Args:
        memory: says which mixture.
        log_all: (B, Q), as in `Recall`.
        log_normalizer: (B, Q), log of the sum of exp(z) over the vocabulary, for scores="logits".

    Returns:
        Two of (B, Q); the memory's is -inf where it is empty.
    """
    if memory.mixture == "linear":
        empty = log_all == -torch.inf
        weight = torch.where(empty, 0, torch.full_like(log_all, memory.weight))
        return torch.log1p(-weight), weight.log()
    odds = log_all
    if memory.scores == "logits":
        assert log_normalizer is not None
        odds = log_all - log_normalizer
    return F.logsigmoid(-odds), F.logsigmoid(odds)  # 0 and -inf for an empty memory


def mixture_nll(
    memory: Memory, nll: Tensor, found: Recall, log_normalizer: Tensor | None = None
) -> Tensor:
    """-log p(target) of the mixture: Wan et al. 2023, Eq. 3, from the model's own loss.

    Args:
        memory: says which mixture.
        nll: (B, Q), -log p(target) of the model.
        found: what the memory holds.
        log_normalizer: as in `log_shares`.

    Returns:
        (B, Q), natural logarithms; where the memory is empty, `nll`.
    """
    model, own = log_shares(memory, found.log_all, log_normalizer)
    inside = found.log_target > -torch.inf
    # Where the target is in no memory, nothing of the other sums may reach the gradient.
    in_cache = own + found.log_target - found.log_all
    return -torch.logaddexp(model - nll, torch.where(inside, in_cache, -torch.inf))


@dataclass(frozen=True)
class Distinct:
    """The tokens of a memory, each once: what the vocabulary's size need not be held for."""

    ids: Tensor
    """(B, M), every token that stands in the memory, ascending; then -1."""
    group: Tensor
    """(B, M), the place in `ids` of every memory's value."""


def distinct(values: Tensor) -> Distinct:
    """Sort the values (B, M) once a sequence: O(M log M)."""
    ordered, order = values.sort(-1)
    new = torch.zeros_like(ordered)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = new.cumsum(-1)
    group = torch.empty_like(place).scatter_(-1, order, place)
    return Distinct(torch.full_like(values, -1).scatter_(-1, place, ordered), group)


def cache_log_probs(s: Tensor, visible: Tensor, group: Tensor) -> Tensor:
    """Log of the memory's own distribution over its distinct tokens; -inf where none is visible.

    Args:
        s: (B, Q, M).
        visible: (B, Q, M).
        group: (B, M), of `Distinct`.

    Returns:
        (B, Q, M), in the places of `Distinct.ids`; all -inf where the memory is empty.
    """
    where = group[:, None, :].expand_as(s)
    # Over positions, not tokens: their order does not change, to the bit, with later tokens.
    normalizer = masked_logsumexp(s, visible)[..., None]
    s = s.masked_fill(~visible, -torch.inf)
    # A token a thousand nats down is still in the cache: sums are taken from each token's own top.
    top = torch.full_like(s, -torch.inf).scatter_reduce(-1, where, s.detach(), "amax")
    top = torch.where(top == -torch.inf, 0, top)
    total = torch.zeros_like(s).scatter_add(-1, where, (s - top.gather(-1, where)).exp())
    inside = total > 0
    logs = torch.where(inside, total, 1).log() + top
    return torch.where(inside, logs - torch.where(inside, normalizer, 0), -torch.inf)


def over_vocabulary(log_cache: Tensor, ids: Tensor, vocab_size: int) -> Tensor:
    """(B, Q, V) of `cache_log_probs` (B, Q, M), -inf for every token that is not in the memory."""
    dense = log_cache.new_full((*log_cache.shape[:-1], vocab_size), -torch.inf)
    return dense.scatter_reduce(-1, _places(ids, log_cache), log_cache, "amax")


def mix(log_probs: Tensor, log_cache: Tensor, ids: Tensor, shares: tuple[Tensor, Tensor]) -> Tensor:
    """log-probabilities of the mixture over the vocabulary; one pass over it.

    Args:
        log_probs: (B, Q, V), of the model.
        log_cache: (B, Q, M), of the memory, as `cache_log_probs` gives them.
        ids: (B, M), of `Distinct`.
        shares: as `log_shares` gives them, (B, Q) each.
    """
    model, own = (share[..., None] for share in shares)
    whole, where = log_probs + model, _places(ids, log_cache)
    in_cache = torch.where(log_cache == -torch.inf, -torch.inf, own + log_cache)
    # Of a place that holds no token this is what stands there already, so the largest is right.
    return whole.scatter_reduce(
        -1, where, torch.logaddexp(whole.gather(-1, where), in_cache), "amax"
    )


def _places(ids: Tensor, log_cache: Tensor) -> Tensor:
    """Where every distinct token stands in the vocabulary; id 0 stands in for none."""
    return ids.clamp(min=0)[:, None, :].expand_as(log_cache)
