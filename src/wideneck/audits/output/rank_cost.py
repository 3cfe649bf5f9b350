"""Nats lost when the output layer has rank r: predicted and measured.

Truncations, all fitted on one half of the text and measured on the other:

- plain:    W V_r V_r^T, the nearest matrix of rank r (Eckart & Young);
- centred:  the same for W less its mean row, which a softmax does not see and which is put back;
- whitened: nearest in E ||(W - W_r) x||^2: SVD of (W - 1 mu^T) M^(1/2), M = E[x x^T];
- fisher:   nearest in a stand-in for the second order of the loss: as whitened, with the Fisher
            matrix of the mean prediction p, W^T diag(p) W - (W^T p)(W^T p)^T, in place of the
            Gram matrix.

The prediction is the second-order expansion of the loss in D = z_r - z:
E[E_p D - D_y] + E[Var_p D] / 2.  At a minimum of the loss the first term vanishes on average.
(Godey et al. 2024, Theorem 5.3, bounds the same gap to first order, which is loose there.)

The model is not touched: hidden states come from the intact model, so a tied embedding keeps all
of its rows.  Cost: a few V D^2 in float64 for the fit, N V D for each truncation, whatever the
number of ranks, and six passes over N V for each rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.measure import measure
from wideneck.audits.measured import measured
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.truncated import Truncation, fit_truncation, truncated_losses
from wideneck.audits.states import HiddenStates, Progress
from wideneck.functional.gram import gram

METHODS = ("plain", "centred", "whitened", "fisher")
THIRTY_SECONDS = (2, 4, 8, 12, 16, 20, 24, 26, 28, 30, 31)


@dataclass(frozen=True, kw_only=True)
class RankLoss:
    """One truncation to one rank."""

    rank: int = measure("rank r of the truncated head")
    method: str = measure("plain, centred, whitened or fisher")
    measured: Estimate = measure("loss of the truncated head minus loss of the head, per token")
    first_order: float = measure("E[E_p D - D_y], D the change of the logits", unit="nats")
    fisher: float = measure("E[Var_p D] / 2", unit="nats")
    predicted: float = measure(
        "first_order + fisher",
        unit="nats",
        caution="a second-order expansion: on the default model within 15 % of the measured loss "
        "up to 0.4 nat for the whitened truncation, and wrong where the change is large, as for "
        "the plain one",
    )


@dataclass(frozen=True, kw_only=True)
class RankCost:
    """Nats lost at rank r."""

    num_fit_tokens: int = measure("tokens that the whitening was fitted on")
    num_test_tokens: int = measure("other tokens, on which all losses were measured")
    points: list[RankLoss] = measure(
        "one for each truncation and rank",
        caution="the plain and centred rows say nothing about capacity: they cut directions by "
        "the size of W alone, also where the hidden states are large. A trained head of half the "
        "rank lost 0.065 nat on Pythia-1B (Godey et al. 2024, figure 6). What whitened and fisher "
        "lose, a trained head of that rank need not lose on this text; how much less is not said",
    )
    skipped: str = measure("truncations that were not measured, and why; empty if none")


def fitting_half(document: Tensor) -> Tensor:
    """(W,) True for the windows to fit on: those of every other document of `document` (W,).

    Every other window where all come from one document.
    """
    order = {d: i for i, d in enumerate(dict.fromkeys(document.tolist()))}
    if len(order) == 1:
        return torch.arange(len(document)) % 2 == 0
    return torch.tensor([order[d] % 2 == 0 for d in document.tolist()])


def default_ranks(hidden_size: int) -> list[int]:
    """Thirty-seconds of the hidden size, denser towards full rank."""
    return sorted({max(1, hidden_size * k // 32) for k in THIRTY_SECONDS} - {hidden_size})


@torch.no_grad()
def rank_cost(
    layer: OutputLayer,
    states: HiddenStates,
    fit: Tensor,
    mean_probability: Tensor,
    *,
    ranks: Sequence[int] | None = None,
    methods: Sequence[str] = METHODS,
    notes: list[str] | None = None,
    progress: Progress | None = None,
) -> RankCost:
    """Truncate, measure, predict.

    Args:
        fit: (W,) True for the windows to fit on; the rest are measured.
        mean_probability: (V,) mean prediction over the fitted windows, for `fisher`.
        ranks: rising, from 1 to D; None for `default_ranks`.
        methods: some of `METHODS`.
        notes: takes the truncations that cannot be made, and why; None to raise it.
    """
    width = layer.weight.shape[1]
    ranks = default_ranks(width) if ranks is None else ranks
    fitted = states.hidden[fit].flatten(0, 1).double()
    targets = states.targets[~fit]
    skipped = ""
    if len(targets) == 0:
        methods = []
        skipped = "all: one window of text cannot be fitted on one half and measured on the other"
    elif len(fitted) < 2 * width:
        methods = [method for method in methods if method in METHODS[:2]]
        skipped = (
            f"whitened and fisher: {len(fitted)} tokens to fit on are fewer than twice the hidden "
            f"size {width}; audit more tokens, some {4 * width} or more"
        )
    mean, centred = gram(layer.weight)
    points = []
    for done, method in enumerate(methods):
        truncation = measured(
            f"nats lost by the {method} truncation",
            partial(fit_truncation, method, layer.weight, mean, centred, fitted, mean_probability),
            None,
            notes,
        )
        if truncation is None:
            continue
        points += rank_losses(truncation, method, layer, states, ~fit, ranks)
        del truncation  # V x D numbers, before the next ones come
        if progress:
            progress("nats lost at rank r", done + 1, len(methods))
    return RankCost(
        num_fit_tokens=len(fitted),
        num_test_tokens=targets.numel(),
        points=points,
        skipped=skipped,
    )


def rank_losses(
    truncation: Truncation,
    method: str,
    layer: OutputLayer,
    states: HiddenStates,
    chosen: Tensor,
    ranks: Sequence[int],
) -> list[RankLoss]:
    """Measure one truncation at some ranks.

    Args:
        method: what it is called.
        chosen: (W,) True for the windows to measure on, other than those that it was fitted on.
        ranks: rising, from 1 to D.
    """
    hidden, targets = states.hidden[chosen], states.targets[chosen]
    sums = truncated_losses(truncation, layer, hidden.flatten(0, 1), targets.flatten(), ranks)
    return [
        RankLoss(
            rank=rank,
            method=method,
            measured=estimate(loss.view_as(targets), states.document[chosen]),
            first_order=first_order.mean().item(),
            fisher=fisher.mean().item(),
            predicted=(first_order + fisher).mean().item(),
        )
        for rank, (loss, first_order, fisher) in zip(ranks, sums, strict=True)
    ]
