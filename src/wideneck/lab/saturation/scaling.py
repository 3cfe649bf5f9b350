"""Scaling laws: the loss that larger models promise smaller ones (Godey et al. 2024, Figure 1b).

L(N, T) = A / N^alpha + B / T^beta + E, N parameters, T training tokens, L in nats a token.  B, beta
and E are frozen at the values of Hoffmann et al. (2022), as in the paper; A and alpha are fitted.

The paper counts every parameter in N, though embeddings and output layer are most of a small
model, and takes over B, beta and E to another text and tokenizer.  So each fit comes twice, with
N of all parameters and of those that are not embeddings, and a gap of small models to the law is a
description, not a proof that they could do better.

The paper fits A and alpha on models of 410M parameters and more, whose losses were not read; so
its law is taken as printed and its small models stand beside it, and a law is fitted on those
small ones too.  At a budget of ours B / T^beta + E, frozen at values from models of billions of
tokens, can be above every loss; no A and alpha fit then, and a power law without a floor,
L = A / N^alpha, is given besides.

The paper does not say how it fits.  Here: a line through log(L - E - B / T^beta) against log N
starts a least-squares fit of log L with the Huber loss, whose threshold is `HUBER`.
Cost: milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import fmean
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from wideneck.audits.measure import measure
from wideneck.errors import WideneckError
from wideneck.lab.saturation.loss_table import PYTHIA, LossRow

Counted = Literal["total", "non_embedding"]
COUNTED: tuple[Counted, ...] = ("total", "non_embedding")

HUBER = 1e-3
"""Residuals of log L up to this count by their square, larger ones by their size."""
LEAST_ROWS = 3
"""Two make any law fit."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """A scaling law of the loss."""

    A: float = measure("A of A / N^alpha")
    alpha: float = measure("alpha of A / N^alpha")
    B: float = measure("B of B / T^beta, frozen", default=410.7)
    beta: float = measure("beta of B / T^beta, frozen", default=0.28)
    E: float = measure("what no size and no text bring down, frozen", unit="nats", default=1.69)

    def loss(self, num_parameters: float, tokens: float) -> float:
        """The loss in nats of a model of a given size after a number of training tokens."""
        return self.A / num_parameters**self.alpha + self.floor(tokens)

    def floor(self, tokens: float) -> float:
        """The loss of a model without end: B / T^beta + E."""
        return self.B / tokens**self.beta + self.E


PUBLISHED = Law(A=119.09, alpha=0.246)
"""Section 3 of the paper: fitted on models of 410M and more, all parameters counted."""


@dataclass(frozen=True, kw_only=True)
class LossGap:
    """One model beside the law."""

    name: str = measure("the model")
    num_parameters: int = measure("N as the law counts it")
    tokens: float = measure("training tokens T", unit="tokens")
    loss: float = measure("its loss", unit="nats per token")
    predicted: float = measure("the law's", unit="nats per token")
    gap: float = measure("loss - predicted; above 0, the model is worse than the law", unit="nats")
    gap_percent: float = measure("gap / predicted", unit="%")
    fitted: bool = measure("the law was fitted on this row, so its gap is a residual")


@dataclass(frozen=True, kw_only=True)
class ScalingFit:
    """A law, and every row of the table beside it."""

    counted: Counted = measure(
        "what N counts: total, all parameters; non_embedding, without embeddings and output layer"
    )
    law: Law = measure("the law")
    rows: list[LossGap] = measure("each row of the table, in its order")
    rms_residual: float | None = measure(
        "root mean square of the gaps of the rows marked fitted; none if there are none",
        unit="nats",
    )
    mean_gap: float | None = measure(
        "mean gap of the rows that were left out of the fit; none if there are none", unit="nats"
    )
    mean_gap_percent: float | None = measure("the same of gap_percent", unit="%")


@dataclass(frozen=True, kw_only=True)
class Laws:
    """The paper's law with its small models, theirs, and ours."""

    published: ScalingFit = measure("the paper's law, its small models beside it")
    pythia: list[ScalingFit] = measure("A and alpha fitted on those five small models")
    family: list[ScalingFit] = measure(
        "A and alpha fitted on the lowest losses of our family, its final ones beside; none where "
        "the frozen constants do not allow it"
    )
    refused: str = measure("why there is none; empty otherwise")
    given: list[ScalingFit] = measure(
        "A and alpha fitted on the rows of --losses that say so, or the paper's law where none "
        "does, and the gaps of the others; none without that file"
    )
    power: list[ScalingFit] = measure(
        "L = A / N^alpha through the lowest losses of our family, B = E = 0",
        caution="a handful of widths of one depth on a tiny budget, overfitting among them",
    )


def fit_law(rows: Sequence[LossRow], counted: Counted) -> ScalingFit:
    """Fit A and alpha on the rows that say so, and tell the gaps of all.

    Raises:
        WideneckError: fewer than three fitted rows, all of one size, or a fitted loss that is not
            above E + B / T^beta.
    """
    fitted = [row for row in rows if row.fitted]
    if len(fitted) < LEAST_ROWS:
        raise WideneckError(
            f"Fitting A and alpha takes at least {LEAST_ROWS} rows with fitted = true, got "
            f"{len(fitted)}; mark more rows, or compare them with a law that is known."
        )
    sizes = np.array([_size(row, counted) for row in fitted], dtype=np.float64)
    if sizes.min() == sizes.max():
        raise WideneckError(
            f"All rows with fitted = true have the same {counted} parameters, {int(sizes[0]):,}; "
            "alpha is told by models of different sizes."
        )
    floors = np.array([PUBLISHED.floor(row.tokens) for row in fitted])
    for row, floor in zip(fitted, floors, strict=True):
        if row.loss <= floor:
            raise WideneckError(
                f"{row.name} has a loss of {row.loss:g} nats, not above E + B / T^beta = "
                f"{floor:.4g} for its {row.tokens:,.0f} tokens, so no A and alpha fit; the law's "
                "frozen constants do not hold for this table."
            )
    log_losses = np.log([row.loss for row in fitted])
    # Around the middle of the sizes the two unknowns hardly depend on each other.
    middle = float(np.log(sizes).mean())
    spread = np.log(sizes) - middle

    def residuals(point: np.ndarray) -> np.ndarray:
        return np.log(np.exp(point[0] - point[1] * spread) + floors) - log_losses

    slope, height = np.polyfit(spread, np.log(np.exp(log_losses) - floors), 1)
    found = least_squares(
        residuals,
        [height, -slope],
        loss="huber",
        f_scale=HUBER,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    height, alpha = (float(x) for x in found.x)
    return compare(rows, Law(A=exp(height + alpha * middle), alpha=alpha), counted)


def compare(rows: Sequence[LossRow], law: Law, counted: Counted) -> ScalingFit:
    """Every row beside a law, such as `PUBLISHED`."""
    gaps = [_gap(row, law, counted) for row in rows]
    residuals = [row.gap**2 for row in gaps if row.fitted]
    left_out = [row for row in gaps if not row.fitted]
    return ScalingFit(
        counted=counted,
        law=law,
        rows=gaps,
        rms_residual=fmean(residuals) ** 0.5 if residuals else None,
        mean_gap=fmean(row.gap for row in left_out) if left_out else None,
        mean_gap_percent=fmean(row.gap_percent for row in left_out) if left_out else None,
    )


def given_laws(rows: Sequence[LossRow]) -> list[ScalingFit]:
    """Laws of a table of losses, fitted on its rows with `fitted`; the paper's where none has it.

    Raises:
        WideneckError: as `fit_law`, where one or two rows have it, for example.
    """
    if not any(row.fitted for row in rows):
        return [compare(rows, PUBLISHED, "total")]
    return [fit_law(rows, counted) for counted in COUNTED]


def laws(rows: Sequence[LossRow], given: Sequence[ScalingFit] = ()) -> Laws:
    """The paper's laws and those of a family.

    Args:
        rows: the family's, at least three of them with `fitted`; the others stand beside them.
        given: the laws of another table, from `given_laws`.
    """
    refused, family = "", []
    try:
        family = [fit_law(rows, counted) for counted in COUNTED]
    except WideneckError as error:
        refused = str(error)
    fitted = [replace(row, fitted=True) for row in PYTHIA]
    return Laws(
        published=compare(PYTHIA, PUBLISHED, "total"),
        pythia=[fit_law(fitted, counted) for counted in COUNTED],
        family=family,
        refused=refused,
        given=list(given),
        power=[_power(rows, counted) for counted in COUNTED],
    )


def _power(rows: Sequence[LossRow], counted: Counted) -> ScalingFit:
    """A line through log L against log N."""
    unit = Law(A=1.0, alpha=0.0, B=0.0, E=0.0)
    gaps = [row for row in compare(rows, unit, counted).rows if row.fitted]
    slope, height = np.polyfit(
        [log(g.num_parameters) for g in gaps], [log(g.loss) for g in gaps], 1
    )
    return compare(rows, replace(unit, A=exp(float(height)), alpha=-float(slope)), counted)


def _gap(row: LossRow, law: Law, counted: Counted) -> LossGap:
    size = _size(row, counted)
    predicted = law.loss(size, row.tokens)
    return LossGap(
        name=row.name,
        num_parameters=size,
        tokens=row.tokens,
        loss=row.loss,
        predicted=predicted,
        gap=row.loss - predicted,
        gap_percent=100 * (row.loss / predicted - 1),
        fitted=row.fitted,
    )


def _size(row: LossRow, counted: Counted) -> int:
    return row.num_parameters - (row.num_embedding_parameters if counted == "non_embedding" else 0)
