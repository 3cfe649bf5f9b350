"""Sparsemax and entmax on rows of scores, beside the `entmax` package."""

from statistics import median

import entmax
import torch

from bench.parts import in_turns, ratio, report, verdict
from wideneck.attention import normalize

ALPHA = 1.3
CASES = {
    "softmax": (lambda x: x.softmax(-1), 7),
    "wideneck sparsemax": (lambda x: normalize(x, "sparsemax"), 7),
    "entmax.sparsemax": (lambda x: entmax.sparsemax(x, -1), 3),
    "wideneck entmax15": (lambda x: normalize(x, "entmax15"), 7),
    "entmax.entmax15": (lambda x: entmax.entmax15(x, -1), 3),
    f"wideneck entmax, alpha {ALPHA}": (lambda x: normalize(x, "entmax", alpha=ALPHA), 7),
    f"entmax.entmax_bisect, alpha {ALPHA}": (lambda x: entmax.entmax_bisect(x, ALPHA, -1), 2),
}
KINDS = {
    "sparsemax": (lambda x: entmax.sparsemax(x, -1), 4.0),
    "entmax15": (lambda x: entmax.entmax15(x, -1), 4.0),
    "alpha": (lambda x: entmax.entmax_bisect(x, ALPHA, -1, n_iter=100), 10.0),
}
"""What names of cases hold: the package's algorithm in float64, and how much faster ours is to be;
its exact algorithm where it has one."""


def step(function, scores, upstream):
    """Values and gradients."""
    leaf = scores.detach().requires_grad_()
    p = function(leaf)
    p.backward(upstream)
    assert leaf.grad is not None
    return p.detach(), leaf.grad


def rows(scale: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(round(12_288 * scale), 1024)
    upstream = torch.randn_like(scores)
    times = in_turns(
        {
            n: lambda function=function: step(function, scores, upstream)
            for n, (function, _) in CASES.items()
        },
        {n: rounds for n, (_, rounds) in CASES.items()},
    )
    some = scores[:256].double(), upstream[:256].double()
    exact = {kind: step(function, *some) for kind, (function, _) in KINDS.items()}
    table = []
    for name, (function, _) in CASES.items():
        found = step(function, scores, upstream)
        errors = ["", ""]
        for kind in KINDS:
            if kind in name:
                pairs = zip(found, exact[kind], strict=True)
                errors = [f"{(x[:256].double() - y).abs().max():.1e}" for x, y in pairs]
        own = times[name]
        times_softmax = ratio(own, times["softmax"])
        cells = [str(len(own)), f"{min(own):.3f}", f"{median(own):.3f}", f"{times_softmax:.1f}"]
        table.append([name, *cells, *errors])
    verdicts = []
    for kind, (_, limit) in KINDS.items():
        ours, theirs = [times[name] for name in CASES if kind in name]
        faster = 1 / ratio(ours, theirs)
        verdicts.append(verdict(f"{kind}: times faster", faster, limit, least=True))
    report(
        f"{len(scores):,} x 1,024 Gaussian scores, float32; errors of 256 rows against float64.",
        ("", "rounds", "min s", "median s", "x softmax", "error p", "error dl"),
        table,
        verdicts,
    )
