"""The geometry of the rows of an output layer: spectrum, norms, cosines.

Measured on all rows and again without the rows that no text could have trained (beyond the
tokenizer, duplicates, undertrained), because a few thousand such rows bend every average.
Cost: three V D^2 products (centred, unit rows, centred unit rows).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.measured import measured, unknown
from wideneck.audits.scale import directions, lengths, power_of
from wideneck.audits.spectrum import Spectrum, gaussian_gram, spectrum, storage_noise
from wideneck.errors import WideneckError
from wideneck.functional.gram import ROWS, gram, row_chunks, symmetric_root


@dataclass(frozen=True, kw_only=True)
class Spectra:
    """One matrix in the gauges that matter, and what chance alone would give."""

    raw: Spectrum = measure(
        "the matrix as stored",
        caution="not a function of the predictions: adding one vector to every row changes this "
        "spectrum and no probability. The gain of the final norm is not folded in",
    )
    centred: Spectrum = measure(
        "the mean row taken off: the part of the matrix that a softmax can see"
    )
    null: Spectrum = measure(
        "a matrix of the same shape with independent Gaussian entries: what no structure at all "
        "looks like"
    )
    data_weighted: Spectrum | None = measure(
        "the centred matrix times the square root of the second moment E[x x^T] of the hidden "
        "states on the text: invariant under any change of basis of the hidden space",
        default=None,
    )
    data_weighted_null: Spectrum | None = measure(
        "a Gaussian matrix times the same square root", default=None
    )


@dataclass(frozen=True, kw_only=True)
class RowNorms:
    """Lengths of the rows."""

    minimum: float = measure("the shortest row")
    p05: float = measure("5th percentile")
    median: float = measure("median")
    p95: float = measure("95th percentile")
    maximum: float = measure("the longest row")
    num_zero: int = measure("rows of length zero; they have no direction and no cosine")


@dataclass(frozen=True, kw_only=True)
class Cosines:
    """Angles between the rows, over all ordered pairs of different rows."""

    anisotropy: float = measure("mean cosine of two rows; about 0 for a Gaussian matrix")
    superposition: float = measure("mean squared cosine of two rows (arXiv 2505.10465)")
    superposition_null: float = measure("1 / d: the mean squared cosine of random directions")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """All geometric measures of one set of rows."""

    num_rows: int = measure("rows measured", unit="tokens")
    spectrum: Spectra = measure("singular values, raw, centred and beside chance")
    mean_row_share: float = measure(
        "V ||mu||^2 / s_0^2, mu the mean row: the share of the largest squared singular value "
        "that the mean row alone explains; a softmax does not see the mean row"
    )
    row_norms: RowNorms = measure("lengths of the rows as stored")
    cosines: Cosines = measure(
        "angles of the rows as stored",
        caution="dominated by the mean row, which a softmax does not see",
    )
    cosines_centred: Cosines = measure("angles of the rows with the mean row taken off")


@torch.no_grad()
def measure_geometry(
    weight: Tensor,
    rounding: float,
    *,
    rows: Tensor | None = None,
    second_moment: Tensor | None = None,
    seed: int = 0,
    notes: list[str] | None = None,
) -> Geometry:
    """Measure `weight` (V, D), or the rows whose indices `rows` holds.

    Args:
        rounding: relative spacing of the storage type, for the numerical rank.
        rows: (R,) indices, or None for all.
        second_moment: (D, D) E[x x^T] of hidden states, for the data-weighted spectrum.
        seed: of the Gaussian null.
        notes: takes what could not be measured, and why; None to raise it.

    Raises:
        WideneckError: every row is the same.
    """
    _check_differ(weight)
    num_rows = len(weight) if rows is None else len(rows)
    # Scale-free measures are taken within reach of float64's squares, and scaled back in the end.
    power = power_of(weight, rows)
    within = weight if power == 1 else weight * power
    mean, centred = gram(within, rows)
    norms = _row_norms(weight, rows)
    longest = norms.maximum if power == 1 else _row_norms(within, rows).maximum
    raw_gram = centred + num_rows * torch.outer(mean, mean)
    largest_column = raw_gram.diagonal().max().sqrt().item()
    noise = storage_noise(rounding, longest, largest_column)

    def spectrum_of(name: str, gram: Tensor, noise: float = 0.0) -> Spectrum:
        return measured(
            f"the {name} spectrum",
            lambda: spectrum(gram, num_rows, noise),
            unknown(Spectrum, num_rows=num_rows, num_columns=len(mean)),
            notes,
        )

    raw = spectrum_of("raw", raw_gram, noise)
    null = gaussian_gram(num_rows, len(mean), seed).to(mean.device)
    weighted = weighted_null = None
    root = None
    if second_moment is not None:
        root = measured(
            "the data-weighted spectra", lambda: symmetric_root(second_moment), None, notes
        )
    if root is not None:
        weighted = spectrum_of("data-weighted", root @ centred @ root).times(1 / power)
        weighted_null = spectrum_of("data-weighted Gaussian", root @ null @ root)
    top = raw.singular_values[0] if raw.singular_values else math.nan
    return Geometry(
        num_rows=num_rows,
        spectrum=Spectra(
            raw=raw.times(1 / power),
            centred=spectrum_of("centred", centred, noise).times(1 / power),
            null=spectrum(null, num_rows),
            data_weighted=weighted,
            data_weighted_null=weighted_null,
        ),
        mean_row_share=num_rows * mean.square().sum().item() / top**2,
        row_norms=norms,
        cosines=_cosines(weight, rows, torch.zeros_like(mean)),
        cosines_centred=_cosines(within, rows, mean),
    )


def _check_differ(weight: Tensor) -> None:
    """Refuse a head whose rows are all the same; the first rows of any other tell."""
    if all(bool((chunk == weight[0]).all()) for chunk in weight.split(ROWS)):
        raise WideneckError(
            "The output layer has the same row for every token (a head at its initialization?); "
            "there is nothing to measure in it."
        )


def _row_norms(weight: Tensor, rows: Tensor | None) -> RowNorms:
    norms = torch.cat([lengths(chunk) for chunk in row_chunks(weight, rows)]).sort().values

    def at(quantile: float) -> float:  # the nearest observed value: no interpolation to explain
        return norms[round(quantile * (len(norms) - 1))].item()

    return RowNorms(
        minimum=at(0),
        p05=at(0.05),
        median=at(0.5),
        p95=at(0.95),
        maximum=at(1),
        num_zero=int((norms == 0).sum()),
    )


def _cosines(weight: Tensor, rows: Tensor | None, mean: Tensor) -> Cosines:
    """Exact means over all pairs without forming them.

    sum_ij cos_ij = ||sum_i u_i||^2 and sum_ij cos_ij^2 = ||U^T U||_F^2 for unit rows u_i.
    """
    total, outer, count = torch.zeros_like(mean), mean.new_zeros(len(mean), len(mean)), 0
    for chunk in row_chunks(weight, rows):
        unit = directions(chunk - mean)
        total += unit.sum(0)
        outer.addmm_(unit.T, unit)
        count += int((unit != 0).any(1).sum())
    pairs = max(count * (count - 1), 1)
    return Cosines(
        anisotropy=(total.square().sum().item() - count) / pairs,
        superposition=(outer.square().sum().item() - count) / pairs,
        superposition_null=1 / len(mean),
    )
