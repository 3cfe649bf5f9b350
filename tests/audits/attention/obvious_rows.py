"""Every query row of every head, measured one at a time from maps, values and random numbers."""

import math
from dataclasses import dataclass, field

import torch

from audits.attention.attention_layers import each
from audits.attention.row_definitions import MEASURES, closest, lower, share, upper

CHOICE_MATTERS = ("bound", "bound_tight")


@dataclass
class Row:
    """A measured query of one head on one window."""

    window: int
    layer: int
    head: int
    query: int
    at: dict = field(default_factory=dict)
    """N -> measure -> number, for each N that leaves a key outside."""
    scan: dict = field(default_factory=dict)
    """N -> measure -> number, for each N of the scan that leaves a key outside."""
    jacobian: tuple = (math.nan, math.nan)
    """Spectral and Frobenius norm."""
    differences: dict = field(default_factory=dict)
    """(T, step) -> finite difference; T -> spectral and Frobenius norm."""


def queries_of(settings, length):
    """Positions at equal distances, the last among them."""
    count = length if settings.num_queries is None else min(settings.num_queries, length)
    return [round((i + 1) * length / count - 1) for i in range(count)]


def keys_of(visible, settings):
    """(q, K): the keys that the geometry counts."""
    counted = torch.ones_like(visible) if settings.include_masked else visible.clone()
    if settings.drop_first:
        counted[:, 0] = False
    return counted


def measured_rows(passes, formula, settings, seed, temperatures, elements, compared):
    """All rows, in the order of windows and layers, in which the section draws random numbers.

    Args:
        passes: of `ObviousModel.read`, one a window.
        formula: of the model's normalizer, or None for no Jacobian.
        temperatures: for each layer, what q k is divided by; None for no finite differences.
        elements: weights that the section takes at a time, and with them random numbers.
        compared: measure only what is compared between normalizers.
    """
    found = []
    for window, one in enumerate(passes):
        # Anew for each window, whichever process reads it; 2654435761 is odd.
        generator = torch.Generator().manual_seed(seed + 2654435761 * window)
        for layer, attention in enumerate(one.layers):
            queries = queries_of(settings, len(attention.visible))
            rows = [
                Row(window, layer, head, query)
                for head in range(len(attention.weights))
                for query in queries
            ]
            vectors = vectors_of(settings.vectors, one, attention)
            counted = keys_of(attention.visible[queries], settings)
            if compared:
                _selection(rows, attention, vectors, counted, settings)
            else:
                _geometry(rows, attention, vectors, counted, settings, generator, elements)
            if formula is not None:
                for row in rows:
                    row.jacobian = _jacobian(row, attention, formula, layer)
            if temperatures is not None:
                raw = attention.scores * temperatures[layer]
                own = temperatures[0]
                _differences(rows, raw, attention.visible, settings, own, generator, elements)
            found += rows
    return found


def vectors_of(kind, one, attention):
    """(H, K, d)."""
    if kind == "values":
        return attention.values
    states = one.embeddings if kind == "embeddings" else attention.hidden
    return torch.stack([states for _ in attention.values])


def _geometry(rows, attention, vectors, counted, settings, generator, elements):
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    far = unit if settings.normalize_distance else vectors
    near = unit if settings.normalize_geometry else vectors
    num_heads, last = len(vectors), settings.critical_up_to
    drawn = [counted, num_heads, elements, generator]
    orders = random_orders(*drawn, settings.draws, min(settings.sizes))
    scanned = random_orders(*drawn, 1, 1) if last else None
    extent = [closest(near[head], counted) for head in range(num_heads)]
    for place, row in enumerate(rows):
        at = place % len(counted)
        keys = counted[at].nonzero()[:, 0].tolist()
        alpha = attention.weights[row.head, row.query, keys]
        x, unit_x = far[row.head, keys], near[row.head, keys]
        delta, radius = extent[row.head]
        for size in settings.sizes:
            if len(keys) <= size:
                continue
            names = MEASURES if _is_one_choice(alpha, size) else {*MEASURES} - {*CHOICE_MATTERS}
            row.at[size] = {name: float(MEASURES[name](alpha, x, size)) for name in names}
            random = [
                each(alpha, x, [keys.index(key) for key in draw[row.head][at][:size]])
                for draw in orders
            ]
            row.at[size]["expected_monte_carlo"] = float(sum(random) / len(random))
            row.at[size]["share"] = share(alpha, unit_x, size)
            row.at[size]["lower"] = lower(alpha, unit_x, size, radius, delta)
            row.at[size]["upper"] = upper(alpha, unit_x, size, radius, delta)
        for size in range(1, min(last, len(keys) - 1) + 1):
            names = ("each", "expected_paper", "expected_upper")
            row.scan[size] = {name: float(MEASURES[name](alpha, x, size)) for name in names}
            chosen = [keys.index(key) for key in scanned[0][row.head][at][:size]]
            row.scan[size]["expected_monte_carlo"] = float(each(alpha, x, chosen))


def _selection(rows, attention, vectors, counted, settings):
    """Weight and separability alone."""
    if settings.normalize_geometry:
        vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    for place, row in enumerate(rows):
        keys = counted[place % len(counted)].nonzero()[:, 0].tolist()
        alpha, x = attention.weights[row.head, row.query, keys], vectors[row.head, keys]
        for size in settings.sizes:
            if len(keys) > size:
                row.at[size] = {"mass": float(MEASURES["mass"](alpha, x, size))}
                row.at[size]["share"] = share(alpha, x, size)


def _is_one_choice(alpha, size):
    """Whether the weights at the edge differ; which of equal ones are selected is arbitrary."""
    falling = sorted(alpha.tolist(), reverse=True)
    return falling[size - 1] > falling[size]


def random_orders(counted, num_heads, elements, generator, draws, fewest):
    """[draw][head][query]: the counted keys in the order of random numbers, the largest first.

    The numbers are drawn for a block of queries and the keys between the first and the last that
    one of them sees, where these are more than `fewest`.
    """
    found = [[[None] * len(counted) for _ in range(num_heads)] for _ in range(draws)]
    num_rows = max(1, elements // counted.shape[1])
    for head in range(num_heads):
        for start in range(0, len(counted), num_rows):
            block = counted[start : start + num_rows]
            used = block.any(0).nonzero()[:, 0].tolist()
            if not used or used[-1] + 1 - used[0] <= fewest:
                continue
            for draw in range(draws):
                noise = torch.rand(len(block), used[-1] + 1 - used[0], generator=generator)
                for i, seen in enumerate(block):
                    chance = {key: float(noise[i, key - used[0]]) for key in used if seen[key]}
                    order = sorted(chance, key=chance.get, reverse=True)
                    found[draw][head][start + i] = order
    return found


def _jacobian(row, attention, formula, layer):
    """Norms of dp/dl by central differences of the formula."""
    from audits.attention.obvious_model import Place

    scores = attention.scores[row.head, row.query, attention.visible[row.query]]
    place = Place(layer, row.head, attention.hidden[row.query])
    steps = 1e-5 * torch.eye(len(scores), dtype=scores.dtype)
    change = formula(scores + steps, place) - formula(scores - steps, place)
    return norms(change / 2e-5)


def norms(matrix):
    """Spectral and Frobenius."""
    return float(torch.linalg.svdvals(matrix)[0]), float(matrix.square().sum().sqrt())


def _differences(rows, raw, visible, settings, own, generator, elements):
    num_keys = raw.shape[-1]
    num_rows = max(1, elements // num_keys)
    seen = torch.stack([visible[row.query] for row in rows])
    for temperature in sorted({*settings.temperatures, own}):
        for place, row in enumerate(rows):
            p = (raw[row.head, row.query, seen[place]] / temperature).softmax(-1)
            matrix = (torch.diag(p) - torch.outer(p, p)) / temperature
            row.differences[temperature] = norms(matrix)
        for step in settings.steps:
            for start in range(0, len(rows), num_rows):
                block = seen[start : start + num_rows]
                width = int(block.any(0).nonzero()[-1]) + 1
                noise = torch.randn(len(block), width, generator=generator).double()
                for i, row in enumerate(rows[start : start + num_rows]):
                    scores = raw[row.head, row.query, block[i]]
                    v = noise[i, block[i, :width]]
                    moved = scores + step * v / v.norm()
                    change = (moved / temperature).softmax(-1) - (scores / temperature).softmax(-1)
                    row.differences[temperature, step] = float(change.norm()) / step
