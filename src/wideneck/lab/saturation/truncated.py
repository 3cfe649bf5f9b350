"""The audit's prediction for the same model, text and ranks, and the W-error of its output layer.

Fitted on the training states, the first `FIT` of them where there are more, and measured on the
held-out windows on which the heads are measured.
Cost: N V (D + 6 R) operations for each of two truncations of R ranks to N held-out tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.rank_cost import RankCost, rank_cost
from wideneck.audits.spectrum import spectrum
from wideneck.audits.states import HiddenStates, Progress
from wideneck.functional.gram import gram
from wideneck.models import LogitMap
from wideneck.training.state_cache import CachedStates, SplitStates

FIT = 65_536
"""States; in float64 those of a wide model are 2 GB."""


@dataclass(frozen=True, kw_only=True)
class Truncated:
    """The output layer without any training."""

    model: str = measure("whose output layer it is")
    vocab_size: int = measure("V")
    hidden_size: int = measure("d")
    document: list[int] = measure("the document of each held-out window")
    w_error: list[float] = measure(
        "W-error(r) = sqrt(sum_{i >= r} s_i^2) / ||W||_F of the output layer as stored, by rank"
    )
    w_error_centred: list[float] = measure("the same with the mean row taken off")
    ranks: list[int] = measure("the ranks r")
    cost: RankCost = measure("nats lost by truncation, measured and predicted")


def truncated(
    states: CachedStates, ranks: Sequence[int], progress: Progress | None = None
) -> Truncated:
    """Cut to each rank below the hidden size, measure, predict."""
    vocab_size, width = states.weight.shape
    mean, centred = gram(states.weight)
    raw = centred + vocab_size * torch.outer(mean, mean)
    train, valid = (_windows(states.splits[name]) for name in ("train", "valid"))
    num_fit = max(1, FIT // train[1].shape[1])
    fitted = [part[:num_fit] for part in train]
    hidden, targets, document = (torch.cat(both) for both in zip(fitted, valid, strict=True))
    cost = rank_cost(
        OutputLayer(states.weight, states.bias, LogitMap("scale", states.logit_scale)),
        HiddenStates(
            hidden=hidden,
            targets=targets.long(),
            document=document,
            num_bytes=torch.zeros(len(document)),
            anisotropy=[],
            last_logits=torch.empty(0, vocab_size),
        ),
        torch.arange(len(document)) < len(fitted[2]),
        torch.empty(0),
        ranks=[rank for rank in ranks if rank < width],
        methods=("plain", "whitened"),
        progress=progress,
    )
    errors, errors_centred = (spectrum(g, vocab_size).w_error for g in (raw, centred))
    return Truncated(
        model=states.about.model,
        vocab_size=vocab_size,
        hidden_size=width,
        document=valid[2].tolist(),
        w_error=[errors[rank] for rank in ranks],
        w_error_centred=[errors_centred[rank] for rank in ranks],
        ranks=list(ranks),
        cost=cost,
    )


def _windows(split: SplitStates) -> tuple[Tensor, Tensor, Tensor]:
    """States (W, T, D), targets (W, T) and documents (W,) of a split."""
    num = len(split.document)
    return (
        split.hidden.view(num, -1, split.hidden.shape[1]),
        split.target.view(num, -1),
        split.document,
    )
