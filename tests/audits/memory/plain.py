"""The memory section in plain loops of Python floats: what its tensors are held against."""

import math


def memory(sequence, i):
    """(position, value) of the memories that position i, which predicts i + 1, sees."""
    return [(j, sequence[j + 1]) for j in range(i)]


def reciprocal_rank(scores, values, target):
    """None where no value is the target."""
    if target not in values:
        return None
    best = {}
    for score, value in zip(scores, values, strict=True):
        best[value] = max(score, best.get(value, -math.inf))
    above = sum(score > best[target] for score in best.values())
    level = sum(score == best[target] for score in best.values()) - 1
    return 1 / (1 + above + level / 2)


def ranks(sequence, positions, score):
    """Reciprocal ranks at `positions`, with `score(i, j, values)` of each memory; None: no rank."""
    found = []
    for i in positions:
        values = [value for _, value in memory(sequence, i)]
        scores = [score(i, j, values) for j in range(i)]
        found.append(reciprocal_rank(scores, values, sequence[i + 1]))
    return found


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def joint_nll(log_p, s, values, target, theta, bias):
    """-log of (p + sum of the target's) / (1 + sum of all)."""
    weights = [math.exp(theta * x + bias) for x in s]
    hit = sum(w for w, value in zip(weights, values, strict=True) if value == target)
    return -math.log((math.exp(log_p) + hit) / (1 + sum(weights)))


def linear_nll(log_p, s, values, target, theta, weight):
    """-log of (1 - w) p + w q; p alone where there is no memory."""
    if not s:
        return -log_p
    top = max(theta * x for x in s)
    weights = [math.exp(theta * x - top) for x in s]
    hit = sum(w for w, value in zip(weights, values, strict=True) if value == target)
    return -math.log((1 - weight) * math.exp(log_p) + weight * hit / sum(weights))


def published_nll(z, s, values, target):
    """Wan et al. 2023, equation 3: raw scores on both sides."""
    top = max([*z, *s])
    hit = sum(math.exp(x - top) for x, value in zip(s, values, strict=True) if value == target)
    total = sum(math.exp(x - top) for x in [*z, *s])
    return -math.log((math.exp(z[target] - top) + hit) / total)


def joint_share(s, theta, bias):
    """The cache's part of 1 + the sum of all."""
    total = sum(math.exp(theta * x + bias) for x in s)
    return total / (1 + total)


def published_share(z, s):
    """The memories' part of the sum of all exponentials, raw on both sides."""
    top = max([*z, *s])
    own = sum(math.exp(x - top) for x in s)
    return own / (own + sum(math.exp(x - top) for x in z))


def spread(s):
    """Standard deviation of the scores that one prediction sees; None from fewer than two."""
    if len(s) < 2:
        return None
    middle = sum(s) / len(s)
    return math.sqrt(sum((x - middle) ** 2 for x in s) / len(s))
