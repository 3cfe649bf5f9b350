"""What is said of one query's selection, each by its definition: alpha (L,), x (L, d), N keys."""

import math

import torch

from audits.attention.attention_layers import context, each, split, weighted


def mass(alpha, x, size):
    return alpha[split(alpha, size)[0]].sum()


def of_selected(alpha, x, size):
    return each(alpha, x, split(alpha, size)[0])


def net(alpha, x, size):
    selected, outside = split(alpha, size)
    return (context(alpha, x, outside) - context(alpha, x, selected)).norm()


def summed(alpha, x, size):
    selected, outside = split(alpha, size)
    return (weighted(alpha, x, outside) - context(alpha, x, selected)).sum(0).norm()


def theorem(alpha, x, size, largest):
    selected, outside = split(alpha, size)
    out = alpha[outside].sum()
    d1 = (x[outside, None] - x[selected]).norm(dim=-1).max()
    return out * d1 + largest * (mass(alpha, x, size) * len(outside) - out)


def bound(alpha, x, size):
    return theorem(alpha, x, size, x[split(alpha, size)[0]].norm(dim=1).max())


def bound_tight(alpha, x, size):
    s = context(alpha, x, split(alpha, size)[0])
    return theorem(alpha, x, size, s.norm() / mass(alpha, x, size))


def closed_form(alpha, x, size, residual):
    """The mean over the keys outside, with the mean and the variance of a set of the others."""
    count, ones = len(alpha), torch.ones(len(alpha), len(alpha), dtype=alpha.dtype)
    y = weighted(alpha, x, slice(None))
    of_others = (ones - torch.eye(count, dtype=alpha.dtype)) / (count - 1)
    mean = of_others @ y
    spread = of_others @ y.square().sum(1) - mean.square().sum(1)
    left = (count - 1 - size) / max(count - 2, 1)
    square = (y - size * mean).square().sum(1) + residual * size * left * spread
    return (count - size) / count * square.sqrt().sum()


def expected_paper(alpha, x, size):
    return closed_form(alpha, x, size, residual=0)


def expected_upper(alpha, x, size):
    return closed_form(alpha, x, size, residual=1)


MEASURES = {
    "mass": mass,
    "each": of_selected,
    "net": net,
    "summed": summed,
    "bound": bound,
    "bound_tight": bound_tight,
    "expected_paper": expected_paper,
    "expected_upper": expected_upper,
}


def ball(alpha, x, size):
    """Distances from s of the selected vectors, and the radius that excludes all others."""
    selected, outside = split(alpha, size)
    s = context(alpha, x, selected)
    distance = (weighted(alpha, x, slice(None)) - s).norm(dim=1)
    return distance[selected].tolist(), float(distance[outside].min())


def share(alpha, x, size):
    inside, radius = ball(alpha, x, size)
    # 1e-9: of distances that are equal in exact arithmetic neither is the smaller one.
    return sum(d < radius * (1 - 1e-9) for d in inside) / size


def xi(alpha, size, radius, delta):
    selected, _ = split(alpha, size)
    found = []
    for i in selected:
        others = [alpha[j].item() for j in selected if j != i]
        pairs = sum(a * b for k, a in enumerate(others) for m, b in enumerate(others) if k != m)
        found.append(math.sqrt(max(radius**2 * sum(others) ** 2 - delta**2 / 2 * pairs, 0)))
    return found


def lower(alpha, x, size, radius, delta):
    _, r = ball(alpha, x, size)
    return 1 - sum(xi(alpha, size, radius, delta)) / (r * size) if r else -math.inf


def upper(alpha, x, size, radius, delta):
    _, r = ball(alpha, x, size)
    penalties = [max(one - r, 0) ** 2 for one in xi(alpha, size, radius, delta)]
    return sum(math.exp(-penalty / (2 * radius**2)) for penalty in penalties) / size


def closest(vectors, visible):
    """The smallest distance of two vectors that some query sees, and the largest length."""
    used = vectors[visible.any(0)]
    gaps = (used[:, None] - used).norm(dim=-1)
    pairs = gaps[torch.ones_like(gaps).triu(1).bool()].tolist()
    return (min(pairs), float(used.norm(dim=1).max())) if pairs else (math.nan, math.nan)
