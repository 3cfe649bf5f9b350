"""An output layer cut to rank r: its factors, and the loss of each token with them.

z_r = W_r x + b beside z = W x + b, both through the map of the logits; `rank_cost` says which W_r
there are.  Nothing here holds N x V.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.output.layer import OutputLayer, token_chunks
from wideneck.functional.gram import fisher_metric, truncation


@dataclass(frozen=True)
class Truncation:
    """All ranks of one truncation: z_r = (x A)[:, :r] B[:, :r]^T + x.mu + b."""

    inner: Tensor
    """A (D, D)."""
    outer: Tensor
    """B (V, D)."""
    mean: Tensor
    """mu (D,): the mean row that was taken off, or zeros."""


def fit_truncation(
    method: str, weight: Tensor, mean: Tensor, centred: Tensor, hidden: Tensor, p: Tensor
) -> Truncation:
    """One of the truncations of `rank_cost`, at all ranks.

    Args:
        method: plain, centred, whitened or fisher.
        weight: W (V, D).
        mean, centred: of `gram`.
        hidden: (N, D) float64, the states to fit on.
        p: (V,) mean prediction over them.
    """
    metric = centred
    if method == "plain":
        metric = centred + len(weight) * torch.outer(mean, mean)
        mean = torch.zeros_like(mean)
    if method == "fisher":
        metric = fisher_metric(weight, mean, p)
    second_moment = None
    if method in ("whitened", "fisher"):
        second_moment = hidden.T @ hidden / len(hidden)
    inner, outer = truncation(weight, mean, metric, second_moment)
    return Truncation(inner.float(), outer, mean.float())


def mean_prediction(layer: OutputLayer, hidden: Tensor) -> Tensor:
    """(V,) float64: what the layer predicts on average over states (N, D)."""
    total = torch.zeros(len(layer.weight), dtype=torch.float64, device=layer.weight.device)
    for (x,) in token_chunks(hidden):
        total += layer.logits(x).softmax(1).sum(0, dtype=torch.float64)
    return total / len(hidden)


def truncated_losses(
    truncation: Truncation,
    layer: OutputLayer,
    hidden: Tensor,
    targets: Tensor,
    ranks: Sequence[int],
) -> list[Tensor]:
    """For each rank (3, N): loss difference, first-order term, Fisher term.

    Args:
        hidden: (N, D).
        targets: (N,).
        ranks: rising.
    """
    rows: list[list[Tensor]] = [[] for _ in ranks]
    for x, y in token_chunks(hidden, targets):
        z = layer.logits(x)
        lse = z.logsumexp(1)
        p = (z - lse[:, None]).exp_()
        work = torch.empty_like(z)  # one buffer for all ranks: fresh pages cost more than the sums
        for i, z_r in enumerate(_truncated_logits(truncation, layer, x, ranks)):
            top = z_r.amax(1)
            lse_r = torch.sub(z_r, top[:, None], out=work).exp_().sum(1).log_().add_(top)
            change = torch.sub(z_r, z, out=work)
            change_y = change.gather(1, y[:, None])[:, 0]
            mean = torch.linalg.vecdot(p, change)
            # Var = E[(D - E D)^2]: E[D^2] - (E D)^2 would cancel.
            variance = torch.linalg.vecdot(p, change.sub_(mean[:, None]).square_())
            loss = (lse_r - lse) - change_y
            rows[i].append(torch.stack([loss, mean - change_y, variance / 2]))
    return [torch.cat(parts, dim=1).double() for parts in rows]


def _truncated_logits(
    truncation: Truncation, layer: OutputLayer, x: Tensor, ranks: Sequence[int]
) -> Iterator[Tensor]:
    """The logits at each rank, ascending; a rank adds its columns to the one before."""
    inner = x @ truncation.inner
    raw = (x @ truncation.mean)[:, None].expand(-1, len(layer.weight)).clone()
    if layer.bias is not None:
        raw += layer.bias
    start = 0
    for rank in ranks:
        raw.addmm_(inner[:, start:rank], truncation.outer[:, start:rank].T)
        start = rank
        yield layer.logit_map(raw)
