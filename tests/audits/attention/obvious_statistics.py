"""Means, quantiles and rank correlations, each by its definition."""

import math

import numpy as np


def mean(values):
    """Of those that are finite; NaN of none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def known(value):
    return None if math.isnan(value) else value


def five(values):
    """A `Spread`."""
    finite = sorted(value for value in values if math.isfinite(value)) or [math.nan]

    def quantile(share):
        place = share * (len(finite) - 1)
        below, above = finite[math.floor(place)], finite[math.ceil(place)]
        return below + (place - math.floor(place)) * (above - below)

    names = ("lowest", "quarter", "median", "three_quarters", "highest")
    return {name: quantile(i / 4) for i, name in enumerate(names)}


def ranks(values):
    """From 1; equal values share the mean of theirs, shares of keys that rounding parts, too."""
    values = [float(f"{value:.9g}") for value in values]
    return [
        1 + sum(other < value for other in values) + (values.count(value) - 1) / 2
        for value in values
    ]


def pearson(xs, ys):
    x, y = np.array(xs) - mean(xs), np.array(ys) - mean(ys)
    length = math.sqrt((x @ x) * (y @ y))
    return float(x @ y) / length if length else 0.0


def partial_correlation(xs, ys, zs):
    """Of x and y, both without what is linear in z; None where that is all of one."""
    xy, xz, yz = pearson(xs, ys), pearson(xs, zs), pearson(ys, zs)
    left = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / math.sqrt(left) if left > 1e-12 else None
