"""How often the intervals of the house hold the truth: 95 % is what they say.

    python -m bench intervals              both tables, two minutes
    python -m bench intervals documents    only this one; the other is "seeds"

Documents: group means with a part that differs between documents and one that falls as 1 / length,
as differences between tokens do.  "between 10 %" is the first one's share of the variance of a
document of median length.  Heavy tails: Student's t with 3 degrees of freedom; skewed: exponential;
both between documents.  "textbook" is the linearized ratio estimator with Student's t (Cochran,
Sampling Techniques, 3rd ed., section 6.4), between 100 %.  A number stands for 10,000 draws (0.002
standard error) but for those of lengths that are drawn anew, 1,000.
"""

import argparse
from collections.abc import Callable
from typing import Any

from bench.table import markdown

SEED = 0
DRAWS = 10_000
ANEW = 1_000
"""Draws where each has lengths of its own, and so a factor of its own."""
SHARES = (1.0, 0.5, 0.1, 0.0)
"""Of the variance between documents."""


def main(arguments: list[str]) -> None:
    for name in _parser().parse_args(arguments).table or TABLES:
        header, rows = TABLES[name]()
        print(f"{name}, seed {SEED}\n\n{markdown(header, rows)}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench intervals")
    parser.add_argument(
        "table", nargs="*", type=_table, help=f"of {', '.join(TABLES)}; all of them"
    )
    return parser


def _table(name: str) -> str:
    if name not in TABLES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(TABLES)}, got {name!r}")
    return name


def _shapes(rng: Any) -> dict[str, Any]:
    """Lengths of documents by name."""
    import numpy as np

    return {
        "2 of one length": [512, 512],
        "3": [512] * 3,
        "4": [512] * 4,
        "8": [512] * 8,
        "259; 2,571; 1,186; 80": [259, 2571, 1186, 80],
        "5 : 3 : 2": [2500, 1500, 1000],
        "8 : 4 : 2 : 1 : 1": [4096, 2048, 1024, 512, 512],
        "one with half, 10 others": [5120, *[512] * 10],
        "one with half, 100 others": [51200, *[512] * 100],
        "two large, 20 small": [5120, 5120, *[150] * 20],
        "12, lognormal": np.exp(rng.normal(6, 1, 12)).round(),
        "40, lognormal": np.exp(rng.normal(6, 1, 40)).round(),
        "30 windows beside 3 of one": [30 * 512, 512, 512, 512],
    }


def _documents() -> tuple[list[str], list[list[str]]]:
    import numpy as np

    from wideneck.audits.unequal_groups import effective_number, half_width

    rng = np.random.default_rng(SEED)
    kinds = [*SHARES, "heavy tails", "skewed"]
    header = ["documents", "worth"]
    header += [f"between {100 * k:.0f} %" if isinstance(k, float) else k for k in kinds]
    rows = []
    for name, lengths in _shapes(rng).items():
        n = np.array(lengths, dtype=float)
        row = [name, f"{effective_number(n):.1f}"]
        for kind in kinds:
            means = _means(rng, n, kind)
            halves = [half_width(m * n, n) for m in means]
            if halves[0] is None:
                row.append("no interval")
            else:
                row.append(f"{100 * (abs(means @ n / n.sum()) <= halves).mean():.1f}")
        rows.append([*row, f"{100 * _textbook(_means(rng, n, 1.0), n):.1f}"])
    blank = [""] * (len(kinds) - 1)
    for correlation in (0.0, 0.3):
        found = _neighbours(rng, correlation)
        name = f"16 windows of one, neighbours {correlation:g}"
        rows.append([name, "16.0", f"{100 * found:.1f}", *blank, ""])
    for num in (12, 40):
        row = [f"{num} drawn anew, long ones easier", "", f"{100 * _anew(rng, num):.1f}"]
        rows.append([*row, *blank, ""])
    return [*header, "textbook"], rows


def _means(rng: Any, n: Any, kind: float | str) -> Any:
    """(DRAWS, G) means of documents, of mean 0."""
    import numpy as np

    size = (DRAWS, len(n))
    if kind == "heavy tails":
        return rng.standard_t(3, size)
    if kind == "skewed":
        return rng.exponential(1, size) - 1
    assert isinstance(kind, float)
    variances = kind + (1 - kind) * np.median(n) / n
    return rng.normal(0, np.sqrt(variances), size)


def _textbook(means: Any, n: Any) -> float:
    import numpy as np
    from scipy.special import stdtrit

    w = n / n.sum()
    mean = means @ w
    squares = np.square(w * (means - mean[:, None])).sum(1) * len(n) / (len(n) - 1)
    return (abs(mean) <= stdtrit(len(n) - 1, 0.975) * np.sqrt(squares)).mean()


def _neighbours(rng: Any, correlation: float) -> float:
    """Windows of one document, each correlated with the one before it."""
    import numpy as np

    from wideneck.audits.unequal_groups import half_width

    n, draws = np.full(16, 512.0), rng.normal(size=(DRAWS, 16))
    for k in range(1, 16):
        draws[:, k] = correlation * draws[:, k - 1] + (1 - correlation**2) ** 0.5 * draws[:, k]
    return float(np.mean([abs(m.mean()) <= half_width(m * n, n) for m in draws]))


def _anew(rng: Any, num: int) -> float:
    """Lengths and means drawn together, a nat less for each e-fold; of all text, not of these."""
    import numpy as np

    from wideneck.audits.unequal_groups import LEAST, effective_number, half_width

    hits = []
    while len(hits) < ANEW:
        logs = rng.normal(6, 1, num)
        n, means = np.exp(logs).round() + 1, -0.5 * (logs - 7) + rng.normal(0, 0.5, num)
        if effective_number(n) >= LEAST:
            # E[n (logs - 7)] = 0 for a lognormal n of variance 1 in its logarithm: the truth is 0.
            hits.append(abs(means @ n / n.sum()) <= half_width(means * n, n))
    return float(np.mean(hits))


def _seeds() -> tuple[list[str], list[list[str]]]:
    import numpy as np

    rng = np.random.default_rng(SEED)
    kinds: dict[str, Callable] = {
        "normal": lambda size: rng.normal(size=size),
        "heavy tails": lambda size: rng.standard_t(3, size),
        "skewed": lambda size: rng.exponential(1, size) - 1,
    }
    rows = [
        [f"paired differences of {num} seeds", *(_paired(draw, num) for draw in kinds.values())]
        for num in (2, 3, 5, 10)
    ]
    for ours, theirs, scale in ((3, 3, 1), (5, 3, 1), (3, 3, 4), (3, 10, 4), (3, None, 1)):
        name = f"{ours} seeds beside a published " + (
            "number" if theirs is None else f"mean of {theirs}, deviation x {scale}"
        )
        rows.append([name, *(_welch(draw, ours, theirs, scale) for draw in kinds.values())])
    return ["over seeds", *kinds], rows


def _paired(draw: Callable, num: int) -> str:
    from wideneck.papers.paired import paired

    found = [paired(values) for values in (1 + draw((DRAWS // 4, num))).tolist()]
    return f"{100 * sum(_holds(f, 1) for f in found) / len(found):.1f}"


def _holds(found: Any, truth: float) -> bool:
    return found.low <= truth <= found.high


def _welch(draw: Callable, num: int, other: int | None, scale: float) -> str:
    """Against a published mean and deviation over `other` seeds, or one run without either."""
    from wideneck.papers.published import PublishedResult
    from wideneck.papers.spread import spread
    from wideneck.papers.verdict import judge

    hits = 0
    theirs = scale * draw((DRAWS, other or 1))
    for mine, published in zip(draw((DRAWS, num)).tolist(), theirs.tolist(), strict=True):
        over = spread(published)
        result = PublishedResult(
            table="", data="", row="", measure="", status="verified", printed="",
            value=over.mean, spread=over.std, seeds=other,
        )  # fmt: skip
        found = judge(result, spread(mine), num)
        hits += _holds(found, 0)
    return f"{100 * hits / DRAWS:.1f}"


TABLES = {"documents": _documents, "seeds": _seeds}
