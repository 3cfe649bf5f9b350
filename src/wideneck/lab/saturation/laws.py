"""Scaling laws of the paper's losses and of ours.

The paper fits A and alpha on models of 410M parameters and more, whose losses were not read; so
its law is taken as printed and its small models stand beside it, and a law is fitted on those
small ones too, with both counts of N.  At a budget of ours B / T^beta + E, frozen at values from
models of billions of tokens, can be above every loss; no A and alpha fit then, and a power law
without a floor, L = A / N^alpha, is given besides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np

from wideneck.audits.measure import measure
from wideneck.errors import WideneckError
from wideneck.lab.saturation.loss_table import PYTHIA, LossRow
from wideneck.lab.saturation.scaling import (
    COUNTED,
    PUBLISHED,
    Counted,
    Law,
    ScalingFit,
    compare,
    fit_law,
)


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


def given_laws(rows: Sequence[LossRow]) -> list[ScalingFit]:
    """Of a table of losses: fitted on its rows with `fitted`, or the paper's law where none has it.

    Raises:
        WideneckError: as `fit_law`, where one or two rows have it, for example.
    """
    if not any(row.fitted for row in rows):
        return [compare(rows, PUBLISHED, "total")]
    return [fit_law(rows, counted) for counted in COUNTED]


def laws(rows: Sequence[LossRow], given: Sequence[ScalingFit] = ()) -> Laws:
    """Of a family: rows with `fitted`, at least three, and others to stand beside them.

    Args:
        rows: of the family.
        given: of another table, from `given_laws`.
    """
    refused = ""
    family = []
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
