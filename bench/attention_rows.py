"""Sparsemax and entmax on rows of scores, beside the `entmax` package.

python -m bench.attention_rows SCALE        JSON on standard output
"""

from statistics import median

import entmax
import torch

from bench.parts import in_turns, ratio, report, start, verdict
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
PAIRS = (("sparsemax", 4.0), ("entmax15", 4.0), ("alpha", 10.0))


def main() -> None:
    scale = start()
    torch.manual_seed(0)
    scores = torch.randn(round(12_288 * scale), 1024)
    upstream = torch.randn_like(scores)

    def step(function):
        leaf = scores.detach().requires_grad_()
        p = function(leaf)
        p.backward(upstream)
        assert leaf.grad is not None
        return p.detach(), leaf.grad

    def run(function):
        return lambda: step(function)

    times = in_turns(
        {name: run(function) for name, (function, _) in CASES.items()},
        {name: rounds for name, (_, rounds) in CASES.items()},
    )
    exact = _exact(scores[:256].double(), upstream[:256].double())
    rows = []
    for name, (function, _) in CASES.items():
        p, gradient = (x[:256].double() for x in step(function))
        errors = ["", ""]
        if name != "softmax":
            p64, gradient64 = exact[_kind(name)]
            errors = [f"{(p - p64).abs().max():.1e}", f"{(gradient - gradient64).abs().max():.1e}"]
        rows.append(
            [
                name,
                str(len(times[name])),
                f"{min(times[name]):.3f}",
                f"{median(times[name]):.3f}",
                f"{ratio(times[name], times['softmax']):.1f}",
                *errors,
            ]
        )
    verdicts = []
    for kind, limit in PAIRS:
        ours, theirs = [times[name] for name in CASES if kind in name]
        verdicts.append(
            verdict(f"{kind}: times faster", 1 / ratio(ours, theirs), limit, least=True)
        )
    report(
        f"{len(scores):,} x 1,024 Gaussian scores, float32; errors of 256 rows against float64.",
        ("", "rounds", "min s", "median s", "x softmax", "error p", "error dl"),
        rows,
        verdicts,
    )


def _kind(name: str) -> str:
    return next(kind for kind, _ in PAIRS if kind in name)


def _exact(scores, upstream):
    """Values and gradients in float64, by the package's exact algorithms where it has one."""
    found = {}
    for kind, function in (
        ("sparsemax", lambda x: entmax.sparsemax(x, -1)),
        ("entmax15", lambda x: entmax.entmax15(x, -1)),
        ("alpha", lambda x: entmax.entmax_bisect(x, ALPHA, -1, n_iter=100)),
    ):
        leaf = scores.clone().requires_grad_()
        p = function(leaf)
        p.backward(upstream)
        found[kind] = p.detach(), leaf.grad
    return found


if __name__ == "__main__":
    main()
