"""How often the intervals of the house hold the truth: 95 % is what they say.

    python -m bench intervals              all tables, three minutes
    python -m bench intervals documents    only this one; also "skewed", "dependent", "seeds"

Documents: group means with a part that differs between documents and one that falls as 1 / length,
as differences between tokens do.  "between 10 %" is the first one's share of the variance of a
document of median length.  Heavy tails: Student's t with 3 degrees of freedom, between documents.
"textbook" is the linearized ratio estimator with Student's t (Cochran, Sampling Techniques, 3rd
ed., section 6.4), between 100 %.

Skewed: exponential means of documents, beside heavy tails.  "by Hall's" corrects the first order of
the skewness (Hall, J. Roy. Statist. Soc. B 54, 1992), which the intervals of the house do not.

Dependent: neighbouring windows of one document that correlate; and documents whose lengths, drawn
anew each time, explain half of the variance of their means.

A number stands for 40,000 draws (0.1 % standard error) but for those of lengths that are drawn
anew, 400 (1.5 %), and of seeds, 10,000 and 2,500.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bench.parts import one_of
from bench.table import markdown
from wideneck.audits.unequal_groups import effective_number, half_width, rule
from wideneck.lab.published import PublishedResult
from wideneck.lab.spread import paired, spread
from wideneck.lab.verdict import judge

SEED = 0
DRAWS = 10_000
ROUNDS = 4
"""Rounds of DRAWS each, for what is not drawn anew."""
ANEW = 400
"""Draws where each has lengths of its own, and so a factor of its own."""
KINDS: dict[str, Callable] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.standard_t(3, size),
    "skewed": lambda rng, size: rng.exponential(1, size) - 1,
}
SHARES = (1.0, 0.5, 0.1, 0.0)
"""Shares of the variance that lie between documents."""


def main(arguments: list[str]) -> None:
    for name in _parser().parse_args(arguments).table or TABLES:
        header, rows = TABLES[name]()
        print(f"{name}, seed {SEED}\n\n{markdown(header, rows)}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench intervals")
    told = f"of {', '.join(TABLES)}; all of them"
    parser.add_argument("table", nargs="*", type=one_of(TABLES), help=told)
    return parser


def _shapes(rng: Any) -> dict[str, Any]:
    """Lengths of documents by name."""
    return {
        "2 of one length": [512, 512],
        "3": [512] * 3,
        "4": [512] * 4,
        "8": [512] * 8,
        "259; 2,571; 1,186; 80": [259, 2571, 1186, 80],
        "2 : 1": [2000, 1000],
        "5 : 3 : 2": [2500, 1500, 1000],
        "8 : 4 : 2 : 1 : 1": [4096, 2048, 1024, 512, 512],
        "one with half, 10 others": [5120, *[512] * 10],
        "one with half, 100 others": [51200, *[512] * 100],
        "one with a fifth, 1,000 others": [250 * 512, *[512] * 1000],
        "two large, 20 small": [5120, 5120, *[150] * 20],
        "5 books, 50 notes": [90e3, 120e3, 70e3, 150e3, 100e3, *[800] * 50],
        "12, lognormal": np.exp(rng.normal(6, 1, 12)).round(),
        "40, lognormal": np.exp(rng.normal(6, 1, 40)).round(),
        "two with nine tenths, 20 others": [90 * 512, 90 * 512, *[512] * 20],
        "one with half, 1,000 others": [1000 * 512, *[512] * 1000],
        "one with four fifths, 30 others": [4 * 30 * 512, *[512] * 30],
        "30 windows beside 3 of one": [30 * 512, 512, 512, 512],
    }


def _house(means: Any, n: Any) -> Any:
    halves = half_width(means * n, n)
    return None if halves is None else abs(means @ n / n.sum()) <= halves


def _held(draw: Callable, n: Any, inside: Callable = _house) -> str:
    """In per cent, how often the truth, 0, is `inside` of what drawn means of n values give."""
    found = [inside(draw(), n) for _ in range(ROUNDS)]
    return "no interval" if found[0] is None else _percent(found)


def _percent(held: Any) -> str:
    return f"{100 * np.mean(held):.1f}"


def _documents() -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(SEED)
    kinds = [*SHARES, "heavy tails"]
    header = ["documents", "worth"]
    header += [f"between {100 * k:.0f} %" if isinstance(k, float) else k for k in kinds]
    rows = []
    for name, lengths in _shapes(rng).items():
        n = np.array(lengths, dtype=float)
        held = [_held(partial(_means, rng, n, kind), n) for kind in kinds]
        textbook = _held(partial(_means, rng, n, 1.0), n, _textbook)
        rows.append([name, f"{effective_number(n):.1f}", *held, textbook])
    return [*header, "textbook"], rows


def _skewed() -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(SEED)
    shapes = {f"{num} of one length": [512] * num for num in (2, 4, 8, 16, 32, 64)}
    names = ("259; 2,571; 1,186; 80", "12, lognormal", "40, lognormal")
    shapes |= {name: lengths for name, lengths in _shapes(rng).items() if name in names}
    rows = []
    for name, lengths in shapes.items():
        n = np.array(lengths, dtype=float)
        held = [
            _held(partial(_means, rng, n, kind), n, inside)
            for kind in ("skewed", "heavy tails")
            for inside in (_house, _hall)
        ]
        rows.append([name, *held])
    return ["documents", "skewed", "by Hall's", "heavy tails", "by Hall's"], rows


def _dependent() -> tuple[list[str], list[list[str]]]:
    rows = []
    for correlation in (0.0, 0.3):
        draw = partial(_neighbours, np.random.default_rng(SEED), correlation)
        held = _held(draw, np.full(16, 512.0))
        rows.append([f"16 windows of one document, neighbours correlate by {correlation:g}", held])
    for num in (12, 40):
        held = _anew(np.random.default_rng(SEED), num)
        rows.append([f"{num} documents drawn anew, long ones easier", held])
    return ["dependent", "holds"], rows


def _hall(means: Any, n: Any) -> Any:
    """(M - mean) / sqrt(V) by his cubic, with the skewness of M from its residuals."""
    w = n / n.sum()
    mean = means @ w
    parts = w * (means - mean[:, None])
    skewness = (parts**3).sum(1) / np.square(parts).sum(1) ** 1.5
    found = rule(tuple(n))
    assert found is not None  # only shapes with an interval are drawn
    factor, _ = found
    t = mean * factor / half_width(means * n, n)
    return abs(t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6) <= factor


def _means(rng: Any, n: Any, kind: float | str) -> Any:
    """(DRAWS, G) means of documents, of mean 0."""
    size = (DRAWS, len(n))
    if isinstance(kind, str):
        return KINDS[kind](rng, size)
    variances = kind + (1 - kind) * np.median(n) / n
    return rng.normal(0, np.sqrt(variances), size)


def _textbook(means: Any, n: Any) -> Any:
    w = n / n.sum()
    mean = means @ w
    squares = np.square(w * (means - mean[:, None])).sum(1) * len(n) / (len(n) - 1)
    return abs(mean) <= stdtrit(len(n) - 1, 0.975) * np.sqrt(squares)


def _neighbours(rng: Any, correlation: float) -> Any:
    """(DRAWS, 16) windows of one document, each correlated with the one before it."""
    draws = rng.normal(size=(DRAWS, 16))
    for k in range(1, 16):
        draws[:, k] = correlation * draws[:, k - 1] + (1 - correlation**2) ** 0.5 * draws[:, k]
    return draws


def _anew(rng: Any, num: int) -> str:
    """Lengths and means drawn together, a nat less for each e-fold; of all text, not of these."""
    hits = []
    while len(hits) < ANEW:
        logs = rng.normal(6, 1, num)
        n, means = np.exp(logs).round() + 1, -0.5 * (logs - 7) + rng.normal(0, 0.5, num)
        # E[n (logs - 7)] = 0 for a lognormal n of variance 1 in its logarithm: the truth is 0.
        held = _house(means, n)
        if held is not None:
            hits.append(held)
    return _percent(hits)


def _seeds() -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(SEED)
    draws = [partial(draw, rng) for draw in KINDS.values()]
    rows = [
        [f"paired differences of {num} seeds", *(_paired(draw, num) for draw in draws)]
        for num in (2, 3, 5, 10)
    ]
    for ours, theirs, scale in ((3, 3, 1), (5, 3, 1), (3, 3, 4), (3, 10, 4), (3, None, 1)):
        name = f"{ours} seeds beside a published " + (
            "number" if theirs is None else f"mean of {theirs}, deviation x {scale}"
        )
        rows.append([name, *(_welch(draw, ours, theirs, scale) for draw in draws)])
    return ["over seeds", *KINDS], rows


def _paired(draw: Callable, num: int) -> str:
    found = (paired(values) for values in (1 + draw((DRAWS // 4, num))).tolist())
    return _percent([_holds(one, 1) for one in found])


def _holds(found: Any, truth: float) -> bool:
    return found.low <= truth <= found.high


def _welch(draw: Callable, num: int, other: int | None, scale: float) -> str:
    """Against a published mean and deviation over `other` seeds, or one run without either."""
    hits = []
    theirs = scale * draw((DRAWS, other or 1))
    for mine, published in zip(draw((DRAWS, num)).tolist(), theirs.tolist(), strict=True):
        over = spread(published)
        result = PublishedResult(
            table="", data="", row="", measure="", status="verified", printed="",
            value=over.mean, spread=over.std, seeds=other,
        )  # fmt: skip
        hits.append(_holds(judge(result, spread(mine), num), 0))
    return _percent(hits)


TABLES = {
    "documents": _documents,
    "skewed": _skewed,
    "dependent": _dependent,
    "seeds": _seeds,
}
