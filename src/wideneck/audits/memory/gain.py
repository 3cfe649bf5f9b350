"""What a cache of the window gains in nats: fitted on half of the documents, measured on the rest.

Grave et al. 2017 (arXiv 1612.04426) added a cache to trained models, linearly and under one
normalizer; Zhong et al. 2022 and Wan et al. 2023 train with the second, without its two numbers.
Cost: N V D for the losses of the model, T M D a window for the similarities, which are kept (1 MB
a window of 512), and two sums over T M / 2 of them for each of some 50 values of theta.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.memory.caches import PUBLISHED, Scores, fit_joint, fit_linear
from wideneck.audits.memory.context import Context
from wideneck.audits.memory.results import Cache, CacheGain
from wideneck.audits.output.layer import OutputLayer, token_chunks
from wideneck.audits.output.rank_cost import fitting_half
from wideneck.audits.states import Progress
from wideneck.memory.mixture import log_shares, mixture_nll, positives
from wideneck.memory.scores import similarities

KINDS = ("counts", "similarity", "same token")
FITS = {"joint": fit_joint, "linear": fit_linear}


@dataclass(frozen=True)
class _Half:
    """The predictions of one half of the text."""

    document: Tensor
    """(W,)."""
    nll: Tensor
    """(N,) float64, of the model."""
    log_normalizer: Tensor
    """(N,) log of the sum of its e^z."""
    scores: dict[str, Scores]
    """By kind."""

    def over_text(self, values: Tensor) -> Estimate:
        """The mean of one number (N,) for each prediction."""
        return estimate(values.view(len(self.document), -1), self.document)

    def cache(self, losses: Tensor, with_counts: Tensor | None, **known: Any) -> Cache:
        """What a cache with these losses (N,) does, and what it adds to one of counts."""
        return Cache(
            **known,
            loss=self.over_text(losses),
            gain=self.over_text(self.nll - losses),
            over_counts=None if with_counts is None else self.over_text(with_counts - losses),
        )


@torch.no_grad()
def cache_gain(
    layer: OutputLayer, context: Context, hidden: Tensor, *, progress: Progress | None = None
) -> CacheGain:
    """Fit every cache on one half and measure it on the other.

    Args:
        hidden: (W, P + T, D) states that enter the head.

    Raises:
        UnmeasurableError: a loss of the model or a similarity is not finite.
    """
    fit = fitting_half(context.document)
    window = context.targets.shape[1]
    if fit.all():
        return skipped(
            context, "one window of text cannot be fitted on one half and measured on the other"
        )
    if not context.visible.any():
        return skipped(context, f"a window of {window} has no memory to look into")
    fitting, test = (_half(layer, context, hidden, part, progress) for part in (fit, ~fit))
    caches, done = [], 0
    for mixture, fitted_by in FITS.items():
        without = None
        for kind in KINDS:
            counts, scores = kind == "counts", test.scores[kind]
            fitted = fitted_by(fitting.scores[kind], fitting.nll, counts=counts)
            losses = fitted.nll(scores, test.nll)
            cache = test.cache(
                losses,
                without,
                mixture=mixture,
                scores=kind,
                theta=None if counts or fitted.memory is None else fitted.theta,
                bias=fitted.bias,
                weight=fitted.weight,
                mass=fitted.mass(scores),
                fitted_gain=fitting.nll.mean().item() - fitted.loss,
            )
            caches.append(cache)
            without = losses if counts else without
            done += 1
            if progress:
                progress("what a cache gains", done, len(FITS) * len(KINDS))
    return replace(
        skipped(context, ""),
        spread=fitting.scores["similarity"].spread(),
        loss=test.over_text(test.nll),
        caches=[*caches, _published(test)],
    )


def skipped(context: Context, why: str) -> CacheGain:
    """No cache, and why; both halves are counted."""
    fit, window = fitting_half(context.document), context.targets.shape[1]
    return CacheGain(
        num_fit_tokens=int(fit.sum()) * window,
        num_test_tokens=int((~fit).sum()) * window,
        spread=None,
        loss=None,
        caches=[],
        skipped=why,
    )


def _half(
    layer: OutputLayer,
    context: Context,
    hidden: Tensor,
    part: Tensor,
    progress: Progress | None,
) -> _Half:
    hidden, targets = hidden[part], context.targets[part]
    window = targets.shape[1]
    queries = hidden[:, -window:]
    nll, lse, done = [], [], 0
    for x, y in token_chunks(queries.flatten(0, 1), targets.flatten()):
        x, y = x.to(layer.weight.device), y.to(layer.weight.device)
        z = layer.logits(x)
        total = z.logsumexp(1)
        lse.append(total.cpu())
        nll.append((total - z.gather(1, y[:, None])[:, 0]).cpu())
        done += len(x)
        if progress:
            progress("loss of the model", done, targets.numel())
    positive = positives(context.visible, context.values[part], targets)
    # Targets have few memories, so their sums go over the most that any prediction has.
    most = max(1, int(positive.sum(2).max()))
    kept, where = positive.to(torch.uint8).topk(most, dim=2)
    alike = similarities(queries, hidden[:, :-1])
    for name, numbers in (("losses of the model", torch.cat(nll)), ("similarities", alike)):
        if not bool(numbers.isfinite().all()):
            raise UnmeasurableError(f"some {name} are not finite")
    return _Half(
        document=context.document[part],
        nll=torch.cat(nll).double(),
        log_normalizer=torch.cat(lse).double(),
        scores={
            kind: Scores(scores, context.visible, where, kept.bool())
            for kind, scores in (
                ("counts", torch.zeros((), dtype=torch.bool).expand_as(alike)),
                ("similarity", alike),
                ("same token", context.current[part, :, None] == context.keys[part, None]),
            )
        },
    )


def _published(test: _Half) -> Cache:
    """Equation 3 of Wan et al. 2023 as it stands, in a model that was not trained for it."""
    found = test.scores["similarity"].recall(1.0)
    losses = mixture_nll(PUBLISHED, test.nll, found, test.log_normalizer)
    _, own = log_shares(PUBLISHED, found.log_all, test.log_normalizer)
    return test.cache(
        losses,
        None,
        mixture="published",
        scores="similarity",
        theta=1.0,
        bias=0.0,
        weight=None,
        mass=own.exp().mean().item(),
        fitted_gain=None,
    )
