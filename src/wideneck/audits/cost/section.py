"""Section "cost": what a cheaper output layer costs, measured and predicted.

The hidden states are those of the intact model, as in `rank_cost`: what is measured is the head
alone, and an embedding tied to it keeps all of its rows.  Ranks, codes and moments are fitted on
one half of the documents, and everything is measured on the other, so that all rows of the table
stand on the same tokens.

Cost: a product with each cheaper head's matrix and some ten passes over its scores; a few V D^2 for
what is fitted.  Some matrices are held at once, `HELD` bytes of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.cost.choosing import chosen
from wideneck.audits.cost.dither import dithered
from wideneck.audits.cost.kinds import Fitted, Made, made
from wideneck.audits.cost.measuring import Apart, apart
from wideneck.audits.cost.predicting import from_moments, from_noise, noise_weights
from wideneck.audits.cost.results import Changes, CostAudit, Kind, OfCount, Predicted
from wideneck.audits.cost.trims import trims
from wideneck.audits.estimate import estimate
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.output.layer import OutputLayer, token_chunks
from wideneck.audits.output.rank_cost import fitting_half
from wideneck.audits.output.truncated import mean_prediction
from wideneck.audits.states import HiddenStates
from wideneck.audits.subject import Subject
from wideneck.audits.tokens.categories import special_ids
from wideneck.data.counts import counts_elsewhere, ranges
from wideneck.models import LogitMap

HELD = 2**30
"""Bytes of matrices in float32 that are held at once."""
UNFITTED = ("format", "shifted")
"""Whose changes know nothing of the states that the moments are of."""
NOISE = 256
"""Tokens over which noise is averaged."""
DITHERED = 512
"""Tokens on which a head moved within its steps is rounded."""
COUNTS = (0, 1, 10, 100, 1000)
OF_COUNT = {"kl": "kl", "nats": "nats", "top1": "same", "acceptance": "acceptance"}
"""Fields of `OfCount` -> those of `Apart`."""


def section(subject: Subject) -> CostAudit | None:
    """The cost of the subject's head; None, and a note, where it is no softmax of a matrix."""
    states, logit_map = subject.states, subject.logit_map
    if states is None or logit_map is None:
        return None  # a note says why
    return subject.measured("what a cheaper head costs", lambda: _audit(subject, states, logit_map))


@torch.no_grad()
def _audit(subject: Subject, states: HiddenStates, logit_map: LogitMap) -> CostAudit:
    layer = OutputLayer.of(subject.head, logit_map)
    layer.check(*states.probe, subject.head.model)
    return audit_cost(
        layer,
        states,
        _counts(subject, states, len(layer.weight)),
        stored=subject.head.dtype,
        limit=subject.cost_limit,
        seed=subject.seed,
        special=special_ids(subject.tokenizer),
        clock=subject.clock,
        progress=subject.progress,
    )


@torch.no_grad()
def audit_cost(
    layer: OutputLayer,
    states: HiddenStates,
    counts: Tensor,
    *,
    stored: str,
    limit: float | None = None,
    seed: int = 0,
    special: Iterable[int] = (),
    clock: Any,
    progress: Any = None,
) -> CostAudit:
    """Measure every cheaper head.

    Args:
        layer: the head.
        states: what enters it on a text of two windows or more.
        counts: (V,), how often each id stands in the text elsewhere.
        stored: how the head is stored.
        limit: nats of divergence within which the smallest kind is chosen.
        seed: of the dither.
        special: ids that no trim drops.
        clock: takes the seconds of each step.
        progress: called as progress(stage, done, total).

    Raises:
        UnmeasurableError: there is one window alone, which cannot be fitted on and measured.
    """
    fit = fitting_half(states.document)
    if not (~fit).any():
        raise UnmeasurableError(
            "one window of text cannot be fitted on and measured: audit more tokens"
        )
    notes: list[str] = []
    with clock("cost: fit"):
        fitted = _fitted(layer, states, fit)
    hidden, targets = states.hidden[~fit], states.targets[~fit]
    text = _Text(hidden, targets, states.document[~fit], counts[targets.cpu()])
    squared = _squared_length(layer, text.flat)
    # Not every so many-th: steps divide windows, whose first tokens are unlike the others.
    some = torch.linspace(0, len(text.flat) - 1, min(NOISE, len(text.flat)) | 1).long()
    noise = noise_weights(layer, text.flat[some.to(text.flat.device)])
    kinds: list[Kind] = []
    everything = list(made(layer, fitted, notes))
    with clock("cost: cheaper heads"):
        for group in _groups(everything, layer):
            heads = [one.make() for one in group]
            found = apart(layer, heads, text.flat, targets.flatten())
            for one, head, moved in zip(group, heads, found, strict=True):
                kinds.append(_kind(one, head, moved, layer, fitted, text, squared, noise))
                if progress:
                    progress("cheaper heads", len(kinds), len(everything))
            del heads, head
    with clock("cost: trimmed and dithered"):
        cut = trims(layer, hidden, targets, text.document, counts.to(hidden.device), special)
        places = torch.randperm(targets.shape[1], generator=torch.Generator().manual_seed(seed))
        some = hidden[:, places[: max(1, DITHERED // len(hidden))].to(hidden.device)]
        moved = dithered(layer, some, text.document, stored, seed, notes)
    return CostAudit(
        num_fit_tokens=len(fitted.hidden),
        num_tokens=targets.numel(),
        num_documents=len(text.document.unique()),
        bf16_bytes=2 * layer.weight.numel(),
        concentration=squared,
        kinds=kinds,
        trims=cut,
        counted=int(counts.sum()),
        dithered=moved,
        choice=None if limit is None else chosen(kinds, limit),
        notes=notes,
    )


@dataclass(frozen=True)
class _Text:
    """What is measured on."""

    hidden: Tensor
    targets: Tensor
    document: Tensor
    counts: Tensor
    """(W, T): of the targets."""

    @property
    def flat(self) -> Tensor:
        """(N, D)."""
        return self.hidden.flatten(0, 1)


def _counts(subject: Subject, states: HiddenStates, vocab_size: int) -> Tensor:
    assert subject.text is not None
    return counts_elsewhere(
        subject.text, subject.tokenizer, vocab_size, states.targets, states.document
    )


def _fitted(layer: OutputLayer, states: HiddenStates, fit: Tensor) -> Fitted:
    hidden = states.hidden[fit].flatten(0, 1)
    wide = hidden.double()
    return Fitted(
        hidden=wide,
        prediction=mean_prediction(layer, hidden),
        second_moment=wide.T @ wide / len(wide),
        enough=len(wide) >= 2 * wide.shape[1],
    )


def _squared_length(layer: OutputLayer, hidden: Tensor) -> float:
    """E sum_j p_j^2."""
    total = 0.0
    for (x,) in token_chunks(hidden):
        total += layer.logits(x).softmax(1).square().sum().item()
    return total / len(hidden)


def _groups(everything: Sequence[Made], layer: OutputLayer) -> Iterator[Sequence[Made]]:
    """As many at once as `HELD` holds."""
    step = max(1, HELD // (4 * layer.weight.numel()))
    for start in range(0, len(everything), step):
        yield everything[start : start + step]


def _kind(
    one: Made,
    head: Any,
    moved: Apart,
    layer: OutputLayer,
    fitted: Fitted,
    text: _Text,
    squared: float,
    noise: Tensor,
) -> Kind:
    shape, document = text.targets.shape, text.document

    def over(values: Tensor) -> Any:
        return estimate(values.view(shape), document)

    moments = None
    if head.rows is not None and one.sort in UNFITTED and layer.logit_map.is_linear:
        moments = from_moments(
            layer.weight,
            head.rows,
            fitted.prediction,
            fitted.second_moment,
            layer.logit_map.scale,
        ) * (1 - squared)
    sizes = moved.nats.abs()
    levels = torch.tensor([0.5, 0.9, 0.99, 0.999], dtype=torch.float64, device=sizes.device)
    half, ninety, ninety_nine, thousandth = sizes.quantile(levels).tolist()
    return Kind(
        name=one.name,
        sort=one.sort,
        about=one.about,
        num_bytes=one.num_bytes,
        share=one.num_bytes / (2 * layer.weight.numel()),
        kl=over(moved.kl),
        nats=over(moved.nats),
        top1=over(moved.same),
        acceptance=over(moved.acceptance),
        rms_probability=moved.probability.square().mean().sqrt().item(),
        changes=Changes(
            half=half,
            ninety=ninety,
            ninety_nine=ninety_nine,
            thousandth=thousandth,
            largest=sizes.max().item(),
        ),
        predicted=Predicted(
            moments=moments,
            noise=_noise(one, head, layer, noise),
            change=moved.half_variance.mean().item(),
        ),
        by_count=[
            OfCount(
                count=count,
                num_tokens=int(mask.sum()),
                **{
                    name: getattr(moved, field).cpu()[mask.flatten()].mean().item()
                    for name, field in OF_COUNT.items()
                },
            )
            for count, mask in ranges(text.counts, COUNTS)
        ],
    )


def _noise(one: Made, head: Any, layer: OutputLayer, weights: Tensor) -> float | None:
    """By the variance of a format's steps, or where it has none by the squares of its errors."""
    if one.format is None or head.rows is None:
        return None
    variance = one.format.variance(layer.weight)
    if variance is None:
        variance = (head.rows(slice(None)) - layer.weight).square_()
    return from_noise(weights, variance)
