"""The attention section's report a second time: every field by its definition, from single rows.

Results are dictionaries with the fields of the dataclasses in `audits.attention.results`.
"""

import math

import torch
from scipy.stats import ks_2samp

from audits.attention.obvious_rows import (
    keys_of,
    measured_rows,
    queries_of,
    vectors_of,
)
from audits.attention.obvious_statistics import (
    five,
    known,
    mean,
    partial_correlation,
    pearson,
    ranks,
)
from audits.attention.row_definitions import closest
from wideneck.audits.estimate import estimate

EXPECTED = ("expected_paper", "expected_upper", "expected_monte_carlo")
LINKED = ["effective_keys", "spread", "first_key", "mass", "distance", "separability"]


class ObviousSection:
    """The numbers of one model under one normalizer.

    Args:
        model: an `ObviousModel`.
        windows: that the section reads.
        settings: of the section.
        seed: of the section.
        temperatures: for each layer what it divides q k by; None where it is no softmax of scores.
        has_jacobian: whether the normalizer has a closed form.
        elements: weights that the section takes at a time.
        compared: whether only what is compared between normalizers is wanted.
    """

    def __init__(
        self,
        model,
        windows,
        settings,
        seed,
        *,
        temperatures=None,
        has_jacobian=True,
        elements=2**16,
        compared=False,
    ):
        self.model, self.windows, self.settings = model, windows, settings
        self.temperatures = temperatures
        self.passes = [
            model.read(ids, targets)
            for ids, targets in zip(windows.ids, windows.targets, strict=True)
        ]
        self.losses = torch.stack([one.losses for one in self.passes])
        self.rows = measured_rows(
            self.passes,
            model.formula if has_jacobian else None,
            settings,
            seed,
            temperatures,
            elements,
            compared,
        )
        self.num_layers = len(self.passes[0].layers)
        self.heads_of = [len(layer.weights) for layer in self.passes[0].layers]

    # Means over rows

    def each_head(self):
        return [
            (layer, head)
            for layer in range(self.num_layers)
            for head in range(self.heads_of[layer])
        ]

    def of_head(self, name, size, layer, head):
        """Mean over windows and queries of a measure at N."""
        return mean(
            row.at[size][name]
            for row in self.rows
            if (row.layer, row.head) == (layer, head) and size in row.at
        )

    def over_heads(self, name, size):
        return mean(self.of_head(name, size, *place) for place in self.each_head())

    def by_layer(self, name, size):
        return [
            [known(self.of_head(name, size, layer, head)) for head in range(self.heads_of[layer])]
            for layer in range(self.num_layers)
        ]

    def all_queries(self, layer, head):
        """(window, query, keys it sees, its weights on them) of all queries, measured or not."""
        for window, one in enumerate(self.passes):
            attention = one.layers[layer]
            for query, visible in enumerate(attention.visible):
                yield window, query, int(visible.sum()), attention.weights[head, query]

    def entropies(self, layer, head):
        """(keys it sees, entropy) of all queries."""
        for _, _, count, weights in self.all_queries(layer, head):
            total = float(weights.sum())
            shares = [w / total for w in weights.tolist() if w > 0]
            yield count, -sum(p * math.log(p) for p in shares)

    # Records

    def head(self, layer, head, ablation):
        settings, size = self.settings, self.settings.reference_size
        entropies = list(self.entropies(layer, head))
        rows = [row for row in self.rows if (row.layer, row.head) == (layer, head)]
        return {
            "layer": layer + 1,
            "head": head + 1,
            "entropy": mean(h for _, h in entropies),
            "effective_keys": mean(math.exp(h) for _, h in entropies),
            "spread": mean(h / math.log(count) for count, h in entropies if count > 1),
            "first_key": self.first_key(layer, head),
            "sink_share": self.sink_share(layer, head),
            "mass": self.of_head("mass", size, layer, head),
            "distance": self.of_head("each", size, layer, head),
            "separability": self.of_head("share", settings.reference_size, layer, head),
            "jacobian_spectral": known(mean(row.jacobian[0] for row in rows)),
            "jacobian_frobenius": known(mean(row.jacobian[1] for row in rows)),
            "ablation": ablation,
        }

    def first_key(self, layer, head):
        """Over the queries after the first."""
        return mean(float(w[0]) for _, query, _, w in self.all_queries(layer, head) if query > 0)

    def sink_share(self, layer, head):
        """Windows in which the queries that see the first key give it more than 0.3 on average."""
        sinks = []
        for one in self.passes:
            attention = one.layers[layer]
            queries = [q for q, visible in enumerate(attention.visible) if visible[0]]
            sinks.append(mean(float(attention.weights[head, q, 0]) for q in queries) > 0.3)
        return sum(sinks) / len(sinks)

    def size(self, size):
        measured = len(self.passes) * len(queries_of(self.settings, self.windows.ids.shape[1]))
        counts = [0] * self.num_layers
        for row in self.rows:
            counts[row.layer] += row.head == 0 and size in row.at
        if max(counts) == 0:
            return None
        return {
            "size": size,
            "num_queries": max(counts),
            "num_excluded": measured - max(counts),
            "mass": self.over_heads("mass", size),
            "distance": self.over_heads("each", size),
            "distance_net": self.over_heads("net", size),
            "distance_summed": self.over_heads("summed", size),
            **{name: self.over_heads(name, size) for name in ("bound", "bound_tight", *EXPECTED)},
            "separability": five(self.of_head("share", size, *p) for p in self.each_head()),
            "separability_lower": known(self.over_heads("lower", size)),
            "separability_upper": self.over_heads("upper", size),
            "distance_by_head": self.by_layer("each", size),
            "separability_by_head": self.by_layer("share", size),
        }

    def length(self, length):
        keys = []
        for layer, head in self.each_head():
            entropies = self.entropies(layer, head)
            keys.append(mean(math.exp(h) for n, h in entropies if length / 2 < n <= length))
        if not any(math.isfinite(value) for value in keys):
            return None
        whole = length == self.windows.ids.shape[1]
        size = self.settings.reference_size
        rows = [row.at[size] for row in self.rows if row.query < length and size in row.at]
        if self.settings.include_masked and not whole:
            rows = []
        names = ("distance", "bound", "expected_paper", "expected_monte_carlo")
        measures = ("each", *names[1:])
        means = {
            name: known(mean(at[measure] for at in rows))
            for name, measure in zip(names, measures, strict=True)
        }
        return {"length": length, "effective_keys": five(keys), **means}

    def lengths(self):
        context = self.windows.ids.shape[1]
        shorter = [2**k for k in range(5, 20) if 2**k < context]
        return [point for n in (*shorter, context) if (point := self.length(n)) is not None]

    def steps(self):
        if self.temperatures is None:
            return []

        def largest(key, part=None):
            means = []
            for place in self.each_head():
                rows = [row.differences for row in self.rows if (row.layer, row.head) == place]
                means.append(mean(row[key] if part is None else row[key][part] for row in rows))
            return max(means)

        return [
            {
                "temperature": temperature,
                "step": step,
                "largest_head": largest((temperature, step)),
                "bound": min(1 / (2 * temperature), math.sqrt(2) / step),
                "paper_bound": min(1 / (4 * temperature), math.sqrt(2)),
                "spectral": largest(temperature, 0),
                "spectral_highest": max(row.differences[temperature][0] for row in self.rows),
                "frobenius": largest(temperature, 1),
            }
            for step in self.settings.steps
            for temperature in sorted({*self.settings.temperatures, self.temperatures[0]})
        ]

    def critical(self):
        names = ("monte_carlo", "paper", "upper") if self.settings.critical_up_to else ()
        return [self._critical(name) for name in names]

    def _critical(self, name):
        statistics, p_values = [], []
        for size in range(1, self.settings.critical_up_to + 1):
            found, chance = (
                [self._scanned(measure, size, *place) for place in self.each_head()]
                for measure in ("each", f"expected_{name}")
            )
            if not all(map(math.isfinite, found + chance)):
                break
            points = found + chance
            gaps = [abs(sum(x <= t for x in found) - sum(x <= t for x in chance)) for t in points]
            statistics.append(max(gaps) / len(found))
            p_values.append(float(ks_2samp(found, chance).pvalue))
        kept = [i + 1 for i, p in enumerate(p_values) if p > self.settings.level]
        return {
            "expectation": name,
            "size": kept[0] if kept else None,
            "share": kept[0] / self.windows.ids.shape[1] if kept else None,
            "level": self.settings.level,
            "statistics": statistics,
            "p_values": p_values,
        }

    def _scanned(self, name, size, layer, head):
        return mean(
            row.scan[size][name]
            for row in self.rows
            if (row.layer, row.head) == (layer, head) and size in row.scan
        )

    def ablation(self):
        """Estimates for each head, and the predictions they are of; None where not asked for."""
        prefix = self.windows.ids.shape[1] - self.windows.targets.shape[1]
        length = min(self.settings.ablation_context, self.windows.ids.shape[1])
        if self.settings.ablation_context == 0:
            return None, 0
        windows = list(zip(self.windows.ids, self.windows.targets, strict=True))
        found = {}
        for place in [None, *self.each_head()]:
            losses = [
                self.model.read(ids[:length], targets[: length - prefix], place).losses
                for ids, targets in windows
            ]
            found[place] = torch.stack(losses)
        base = found.pop(None)
        by_head = {place: self.estimated(losses - base) for place, losses in found.items()}
        return by_head, len(windows) * (length - prefix)

    def estimated(self, values):
        """The interval is `estimate`'s own matter; the mean is that of all tokens."""
        found = estimate(values, self.windows.document)
        assert abs(found.value - mean(values.flatten().tolist())) < 1e-12
        return found

    def smallest_gap(self):
        gaps = []
        for one in self.passes:
            for attention in one.layers:
                queries = queries_of(self.settings, len(attention.visible))
                counted = keys_of(attention.visible[queries], self.settings)
                vectors = vectors_of(self.settings.vectors, one, attention)
                if self.settings.normalize_geometry:
                    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
                gaps += [closest(head, counted)[0] for head in vectors]
        return min(gaps)

    def point(self, normalizer, own_losses, route):
        """A `NormalizerPoint`."""
        places, size = self.each_head(), self.settings.reference_size
        entropies = [h for place in places for _, h in self.entropies(*place)]
        queries = [found for place in places for found in self.all_queries(*place)]
        zeros = [count - int((weights > 0).sum()) for _, _, count, weights in queries]
        return {
            "normalizer": normalizer,
            "route": route,
            "loss": self.estimated(self.losses),
            "change": self.estimated(self.losses - own_losses),
            "entropy": mean(entropies),
            "effective_keys": mean(math.exp(h) for h in entropies),
            "first_key": mean(self.first_key(*place) for place in places),
            "zeros": sum(zeros) / sum(count for _, _, count, _ in queries),
            "row_sum": mean(float(weights.sum()) for *_, weights in queries),
            "mass": self.over_heads("mass", size),
            "separability": self.over_heads("share", size),
            "jacobian_spectral": known(mean(row.jacobian[0] for row in self.rows)),
        }

    def audit(self, comparison, **said):
        """An `AttentionAudit`.

        Args:
            comparison: names, the sections under these normalizers, and their routes.
            said: the fields that no number is computed for.
        """
        settings = self.settings
        ablation, num_ablated = self.ablation()
        heads = [self.head(*p, None if ablation is None else ablation[p]) for p in self.each_head()]
        sizes = [self.size(n) for n in settings.sizes]
        return {
            "num_layers": self.num_layers,
            "num_heads": max(self.heads_of),
            "context": self.windows.ids.shape[1],
            "num_windows": len(self.windows.ids),
            "num_queries": len(queries_of(settings, self.windows.ids.shape[1])),
            "reference_size": settings.reference_size,
            "vectors": settings.vectors,
            "head_dim": self.passes[0].layers[0].values.shape[-1],
            "smallest_gap": self.smallest_gap(),
            "loss": self.estimated(self.losses),
            "ablation_tokens": num_ablated,
            "heads": heads,
            "by_size": [point for point in sizes if point is not None],
            "by_length": self.lengths(),
            "by_step": self.steps(),
            "critical": self.critical(),
            "links": [] if ablation is None else links(heads),
            "comparison": [
                other.point(name, self.losses, route) for name, other, route in comparison
            ],
            **said,
        }


def links(heads):
    names = [*LINKED, *(["jacobian_spectral"] if heads[0]["jacobian_spectral"] else [])]
    losses = ranks([head["ablation"].value for head in heads])
    depth = [float(head["layer"]) for head in heads]
    found = []
    for name in names:
        values = ranks([head[name] for head in heads])
        found.append(
            {
                "measure": name,
                "spearman": pearson(values, losses),
                "spearman_without_depth": partial_correlation(values, losses, depth),
            }
        )
    return found
