"""A neural cache beside a trained model (Grave, Joulin & Usunier, ICLR 2017, arXiv:1612.04426).

At position t, which predicts x_{t+1}, the cache holds the last `size` pairs (h_i, x_{i+1}), i < t:

    p_cache(w) ~ sum_i 1[w = x_{i+1}] exp(theta h_t . h_i)
    p(w) = (1 - weight) p_model(w) + weight p_cache(w)

h is what enters the head.  The pairs go on over segments and windows; each row has its own, and
where there are none yet, at its first position, the model speaks alone.  Only the two sums of
`wideneck.memory.Recall` are formed, over all pairs and over those of the target, nothing of the
vocabulary's size.  Cost beside the model's: `size` D a token, and for each theta two sums of `size`
exponentials.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.evaluation.config import SIZE, NeuralCache
from wideneck.evaluation.perplexity import Perplexity, total
from wideneck.evaluation.streaming import SEGMENT, Reading, stream
from wideneck.memory import Memory, Recall, mixture_nll, recall, similarities
from wideneck.models.small.language_model import LanguageModel

THETAS = (0.0, *(2.0**k for k in range(-9, 3)))
"""0 counts.  h . h is at most D for an LSTM's outputs, and D after a layer norm of unit gain."""

WEIGHTS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)
"""0 leaves the cache out, so that none is chosen that harms."""

TOKENS = 128
"""Positions of a row that are compared at once: 128 of 10 rows with 2,128 pairs are 11 MB."""


@dataclass(frozen=True, kw_only=True)
class CacheFit:
    """The best cache of a grid, and the losses that chose it."""

    cache: NeuralCache = measure("size as given; theta and weight of the least loss on the grid")
    loss: float = measure("on the text that it was chosen on, with the cache", unit="nats")
    loss_model: float = measure("on the same text without", unit="nats")


@torch.no_grad()
def fit_cache(
    model: LanguageModel,
    ids: Tensor,
    *,
    batch_size: int,
    segment: int = SEGMENT,
    size: int = SIZE,
    thetas: Sequence[float] = THETAS,
    weights: Sequence[float] = WEIGHTS,
    progress: Progress | None = None,
) -> CacheFit:
    """The theta and weight of the least loss on a validation text, in one pass over it.

    Args:
        ids: (N,) token ids of the validation text.
        batch_size: rows or windows at a time.
        segment: tokens of a segment, where the backbone carries a state.
        size: pairs that the cache holds.
        thetas: the grid of theta.
        weights: the grid of the cache's share.
        progress: as in `stream`.

    Raises:
        WideneckError: as `stream`; a theta or weight that no cache can have.
    """
    grid = [[NeuralCache(size=size, theta=theta, weight=w) for w in weights] for theta in thetas]
    nats = torch.zeros(len(thetas), len(weights), dtype=torch.float64)
    alone, num_tokens = 0.0, 0
    pieces = _recalled(model, ids, size, thetas, batch_size, segment, progress)
    with closing(pieces):
        for nll, found in pieces:
            for row, caches, sums in zip(nats, grid, found, strict=True):
                row += torch.stack([_mixed(cache, nll, sums).sum() for cache in caches])
            alone += total(nll)
            num_tokens += nll.numel()
    best = divmod(int(nats.argmin()), len(weights))
    return CacheFit(
        cache=grid[best[0]][best[1]],
        loss=nats[best].item() / num_tokens,
        loss_model=alone / num_tokens,
    )


@torch.no_grad()
def cache_perplexity(
    model: LanguageModel,
    ids: Tensor,
    cache: NeuralCache,
    *,
    batch_size: int,
    segment: int = SEGMENT,
    num_bytes: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """The text `ids` (N,) under the mixture; arguments and errors as of `static_perplexity`."""
    reading = Reading.of(model, ids, batch_size=batch_size, segment=segment)
    nats = 0.0
    pieces = _recalled(model, ids, cache.size, [cache.theta], batch_size, segment, progress)
    with closing(pieces):
        for nll, (found,) in pieces:
            nats += total(_mixed(cache, nll, found))
    conventions = (
        f"neural cache of the last {cache.size:,} positions of the row, theta {cache.theta:g}, "
        f"weight {cache.weight:g}; {reading.conventions}"
    )
    return Perplexity.of(nats, reading.num_predicted, conventions, num_bytes)


def _recalled(
    model: LanguageModel,
    ids: Tensor,
    size: int,
    thetas: Sequence[float],
    batch_size: int,
    segment: int,
    progress: Progress | None,
) -> Generator[tuple[Tensor, list[Recall]], None, None]:
    """The model's losses (B, Q), float64, and the sums of the cache for each theta, likewise."""
    pieces = stream(model, ids, batch_size=batch_size, segment=segment, progress=progress)
    history: tuple[Tensor, Tensor] | None = None
    with closing(pieces):
        for hidden, target in pieces:
            nll = model.head.nll(hidden, target)
            if model.backbone.context:  # windows follow one another in the text: one row
                hidden, target = hidden.flatten(0, 1)[None], target.flatten()[None]
                nll = nll.flatten()[None]
            for h, x, losses in zip(
                *(part.split(TOKENS, 1) for part in (hidden, target, nll)), strict=True
            ):
                past = (h[:, :0], x[:, :0]) if history is None else history
                keys = torch.cat([past[0], h], 1)
                values = torch.cat([past[1], x], 1)
                dots = similarities(h, keys) * h.shape[-1] ** 0.5
                visible = _visible(past[1].shape[1], x.shape[1], size).to(x.device)
                sums = [recall(theta * dots, visible, values, x) for theta in thetas]
                history = keys[:, -size:], values[:, -size:]
                yield (
                    losses.cpu().double(),
                    [Recall(s.log_all.cpu().double(), s.log_target.cpu().double()) for s in sums],
                )


def _visible(num_past: int, num_queries: int, size: int) -> Tensor:
    """(1, Q, P + Q): position P + q sees the last `size` pairs before its own."""
    query = num_past + torch.arange(num_queries)[:, None]
    key = torch.arange(num_past + num_queries)
    return ((key < query) & (query - key <= size))[None]


def _mixed(cache: NeuralCache, nll: Tensor, found: Recall) -> Tensor:
    """-log p(target) of the mixture."""
    if cache.weight == 0:
        return nll
    return mixture_nll(Memory(mixture="linear", weight=cache.weight), nll, found)
