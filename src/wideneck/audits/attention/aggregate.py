"""From what was collected of each query to what is reported of heads, sizes and lengths."""

import math
from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from operator import add

import torch
from torch import Tensor

from wideneck.attention.config import Softmax
from wideneck.audits.attention.collect import DISTANCES, SEPARABILITY, Layer, temperatures
from wideneck.audits.attention.critical import critical_size
from wideneck.audits.attention.jacobian import finite_difference_bound, paper_bound
from wideneck.audits.attention.results import (
    CriticalN,
    HeadMeasures,
    LengthPoint,
    SizePoint,
    Spread,
    StepPoint,
)
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.estimate import Estimate
from wideneck.errors import WideneckError

SINK = 0.3
"""Importance above which a head counts as having a sink (Gu et al. 2024)."""

GEOMETRY = (*DISTANCES, *SEPARABILITY)
REPORTED = {"each": "distance", "net": "distance_net", "summed": "distance_summed"}
"""Distances that have another name in a `SizePoint`."""


class Collected:
    """All layers of one pass.

    Args:
        layers: in the order in which they ran.
        settings: of the pass.
        queries: (q,) the positions of the geometry.
    """

    def __init__(self, layers: Sequence[Layer], settings: AttentionSettings, queries: Tensor):
        self.layers, self.settings, self.queries = layers, settings, queries
        self.at = settings.sizes.index(settings.reference_size)

    def check(self) -> None:
        """Refuse a reference size that some layer cannot select.

        Raises:
            WideneckError: no query of a layer sees more keys than it.
        """
        for index, layer in enumerate(self.layers):
            if self.geometry(layer, "each")[:, self.at].isfinite().any():
                continue
            most = max(int(visible.max()) for visible in layer.visible)
            every = layer.visible[0].numel() if self.settings.include_masked else most
            if every - self.settings.drop_first <= self.settings.reference_size:
                raise WideneckError(
                    f"No query of layer {index + 1} has more than {self.settings.reference_size} "
                    f"keys to choose from ({most} at most, less what is dropped), which is the "
                    "reference size: ask for a smaller one."
                )

    def notes(self) -> list[str]:
        """What the means leave out: queries that see enough keys and whose numbers overflow."""
        found = []
        for index, layer in enumerate(self.layers):
            counted = self.geometry(layer, "mass").isfinite()
            finite = [self.geometry(layer, name).isfinite() for name in ("each", "share", "upper")]
            lost = int((counted & ~torch.stack(finite).all(0)).any(1).sum())
            if lost:
                found.append(
                    f"Not measurable: the geometry of {lost:,} queries of layer {index + 1}, each "
                    "counted for each head, which the means leave out (it is beyond float32)."
                )
        return found

    def geometry(self, layer: Layer, name: str) -> Tensor:
        """(W, sizes, H, q) of one measure; NaN where a query sees too few keys."""
        return torch.stack([found[GEOMETRY.index(name)] for found in layer.geometry])

    def by_head(self, name: str) -> list[Tensor]:
        """(sizes, H) for each layer: means over windows and queries."""
        return [_mean(self.geometry(layer, name), (0, 3)) for layer in self.layers]

    def heads(self, ablation: list[list[Estimate]] | None) -> list[HeadMeasures]:
        """One record per head."""
        named = {name: self.by_head(name) for name in ("mass", "each", "share")}
        found = []
        for index, layer in enumerate(self.layers):
            rows = row_means(layer)
            jacobian = _mean(torch.stack(layer.jacobian), (0, 3))  # (2, H)
            for head in range(len(rows["entropy"])):
                found.append(
                    HeadMeasures(
                        layer=index + 1,
                        head=head + 1,
                        **{name: float(values[head]) for name, values in rows.items()},
                        mass=float(named["mass"][index][self.at, head]),
                        distance=float(named["each"][index][self.at, head]),
                        separability=float(named["share"][index][self.at, head]),
                        jacobian_spectral=known(jacobian[0, head]),
                        jacobian_frobenius=known(jacobian[1, head]),
                        ablation=None if ablation is None else ablation[index][head],
                    )
                )
        return found

    def sizes(self) -> list[SizePoint]:
        """One record for each N, means over queries and then over heads."""
        means = {name: self.by_head(name) for name in GEOMETRY}
        # (W, sizes, H, q), in the layer that sees most
        counted = max(
            (~self.geometry(layer, "mass").isnan() for layer in self.layers),
            key=lambda finite: int(finite.sum()),
        )
        points = []
        for at, size in enumerate(self.settings.sizes):
            num_queries = int(counted[:, at, 0].sum())
            if num_queries == 0:  # sliding windows may be shorter than N
                continue
            all_heads = {name: torch.cat([m[at] for m in layers]) for name, layers in means.items()}
            value = {name: float(_mean(x, 0)) for name, x in all_heads.items()}
            points.append(
                SizePoint(
                    size=size,
                    num_queries=num_queries,
                    num_excluded=counted.shape[0] * counted.shape[3] - num_queries,
                    **{REPORTED.get(name, name): value[name] for name in DISTANCES},
                    separability=spread(all_heads["share"]),
                    separability_lower=known(_mean(all_heads["lower"], 0)),
                    separability_upper=value["upper"],
                    distance_by_head=[[known(x) for x in m[at]] for m in means["each"]],
                    separability_by_head=[[known(x) for x in m[at]] for m in means["share"]],
                )
            )
        return points

    def lengths(self) -> list[LengthPoint]:
        """Over context lengths 32, 64, ... and the whole.

        Layers are causal, so the first L positions of a window are a window of length L, unless
        future keys count.
        """
        context = self.settings.context
        lengths = [2**k for k in range(5, int(math.log2(context)) + 1)]
        lengths = [n for n in lengths if n < context] + [context]
        names = ("each", "bound", "expected_paper", "expected_monte_carlo")
        of_query = {
            name: _mean(
                torch.cat([_mean(self.geometry(x, name)[:, self.at], 0) for x in self.layers]), 0
            )
            for name in names
        }  # (q,)
        points = []
        for length in lengths:
            keys = torch.cat([_keys(layer, length) for layer in self.layers])
            if not keys.isfinite().any():  # sliding windows are shorter than half of it
                continue
            up_to = self.queries < length
            if self.settings.include_masked and length < context:
                up_to = up_to & False  # the keys past L would count; a window of L has none
            means = {name: known(_mean(x[up_to], 0)) for name, x in of_query.items()}
            points.append(
                LengthPoint(
                    length=length,
                    effective_keys=spread(keys),
                    distance=means.pop("each"),
                    **means,
                )
            )
        return points

    def steps(self) -> list[StepPoint]:
        """Finite differences; none unless every layer is a softmax."""
        if not all(isinstance(x.config, Softmax) and x.differences for x in self.layers):
            return []
        own = self.layers[0].temperature
        # (W, 3 + steps, temperatures, H of all layers)
        every = torch.cat([torch.stack(x.differences) for x in self.layers], 3)
        largest = every.mean(0).amax(2)  # of a mean over windows
        highest = every[:, -1].amax((0, 2))
        return [
            StepPoint(
                temperature=temperature,
                step=step,
                largest_head=float(largest[2 + j, i]),
                bound=finite_difference_bound(temperature, step),
                paper_bound=paper_bound(temperature),
                spectral=float(largest[0, i]),
                spectral_highest=float(highest[i]),
                frobenius=float(largest[1, i]),
            )
            for j, step in enumerate(self.settings.steps)
            for i, temperature in enumerate(temperatures(self.settings, own))
        ]

    def critical(self) -> list[CriticalN]:
        """The first N not rejected, against each of the three expectations."""
        if not self.settings.critical_up_to:
            return []
        scans = [reduce(add, layer.scan) for layer in self.layers if layer.scan]
        each = torch.cat([scan.each / scan.count for scan in scans], 1)
        found = []
        for name in ("monte_carlo", "paper", "upper"):
            expected = [getattr(scan, f"expected_{name}") / scan.count for scan in scans]
            result = critical_size(each, torch.cat(expected, 1), self.settings.level)
            found.append(
                CriticalN(
                    expectation=name,
                    share=None if result.size is None else result.size / self.settings.context,
                    **vars(result),
                )
            )
        return found


def row_means(layer: Layer) -> dict[str, Tensor]:
    """(H,) means over windows and queries of what needs no geometry."""
    entropy = torch.stack(layer.entropy)  # (W, H, Q)
    visible = torch.stack(layer.visible)[:, None].to(entropy.dtype)  # (W, 1, Q)
    relative = torch.where(visible > 1, entropy / visible.log(), torch.nan)
    first = torch.stack(layer.first_key)
    importance = torch.stack(layer.importance)
    return {
        "entropy": entropy.mean((0, 2)),
        "effective_keys": entropy.exp().mean((0, 2)),
        "spread": _mean(relative, (0, 2)),
        "first_key": first[..., 1:].mean((0, 2)),
        "sink_share": (importance > SINK).float().where(~importance.isnan(), torch.nan).mean(0),
    }


def spread(values: Tensor) -> Spread:
    """Five numbers of what is finite; NaN of nothing."""
    finite = values[values.isfinite()].double()
    if not len(finite):
        finite = torch.full((1,), torch.nan, dtype=torch.float64)
    found = finite.quantile(torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)).tolist()
    return Spread(**{field.name: x for field, x in zip(fields(Spread), found, strict=True)})


def known(value: Tensor) -> float | None:
    """The number, or None for NaN."""
    return None if bool(value.isnan()) else float(value)


def _keys(layer: Layer, length: int) -> Tensor:
    """(H,) mean effective keys of the queries that see L/2 < n <= L keys."""
    keys = torch.stack(layer.entropy).exp()  # (W, H, Q)
    visible = torch.stack(layer.visible)[:, None]
    return _mean(torch.where((visible > length / 2) & (visible <= length), keys, torch.nan), (0, 2))


def _mean(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The mean of what is finite."""
    finite = values.isfinite()
    return torch.where(finite, values, 0).sum(dim) / finite.sum(dim)
