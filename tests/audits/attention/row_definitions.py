"""What is said of one query's selection, each by its definition: alpha (L,), x (L, d), N keys."""

import math

from audits.attention.attention_layers import context, each, split


def mass(alpha, x, size):
    return sum(alpha[i] for i in split(alpha, size)[0])


def of_selected(alpha, x, size):
    return each(alpha, x, split(alpha, size)[0])


def net(alpha, x, size):
    selected, outside = split(alpha, size)
    return (context(alpha, x, outside) - context(alpha, x, selected)).norm()


def summed(alpha, x, size):
    selected, outside = split(alpha, size)
    s = context(alpha, x, selected)
    return sum(alpha[i] * x[i] - s for i in outside).norm()


def theorem(alpha, x, size, largest):
    selected, outside = split(alpha, size)
    out = sum(alpha[i] for i in outside)
    d1 = max((x[i] - x[j]).norm() for i in outside for j in selected)
    return out * d1 + largest * (mass(alpha, x, size) * len(outside) - out)


def bound(alpha, x, size):
    return theorem(alpha, x, size, max(x[j].norm() for j in split(alpha, size)[0]))


def bound_tight(alpha, x, size):
    s = context(alpha, x, split(alpha, size)[0])
    return theorem(alpha, x, size, s.norm() / mass(alpha, x, size))


def closed_form(alpha, x, size, residual):
    count = len(alpha)
    weighted = alpha[:, None] * x
    total = 0
    for i in range(count):
        others = [j for j in range(count) if j != i]
        mean = weighted[others].mean(0)
        spread = weighted[others].square().sum(1).mean() - mean.square().sum()
        left = (count - 1 - size) / max(count - 2, 1)
        square = (weighted[i] - size * mean).square().sum() + residual * size * left * spread
        total += (count - size) / count * square.sqrt()
    return total


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
    distance = [(alpha[i] * x[i] - s).norm().item() for i in range(len(alpha))]
    return [distance[i] for i in selected], min(distance[i] for i in outside)


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
    used = [i for i in range(len(vectors)) if visible[:, i].any()]
    pairs = [(vectors[i] - vectors[j]).norm().item() for i in used for j in used if i < j]
    lengths = [vectors[i].norm().item() for i in used]
    return (min(pairs), max(lengths)) if pairs else (math.nan, math.nan)
