"""The floor: the three matrix products that any exact loss needs, and nothing else.

Scores, dX (unless X is fixed) and dW, in float32, a chunk of rows (token, component) at a time,
with every buffer made beforehand.  It is taken in the layout and at the chunk that are fastest on
the day.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.parts import seconds

LAYOUTS = ("rows x V", "V x rows")
CHUNKS = (256, 512, 1024, 2048)
SAMPLE = 2048
"""Rows that the candidates are compared on."""


class Products:
    """Scores, dX and dW of X (rows, D) and W (V, D), in one layout and chunk."""

    def __init__(self, X: Tensor, W: Tensor, layout: str, chunk: int, *, fixed: bool = False):
        self.X, self.W, self.layout, self.chunk = X, W, layout, chunk
        self.scores = torch.zeros(chunk * len(W))
        self.dX, self.dW = None if fixed else torch.zeros_like(X), torch.zeros_like(W)

    def __str__(self) -> str:
        return f"{self.layout}, chunks of {self.chunk:,} rows"

    def __call__(self) -> None:
        V = len(self.W)
        for start in range(0, len(self.X), self.chunk):
            x = self.X[start : start + self.chunk]
            if self.layout == "rows x V":
                z = self.scores[: len(x) * V].view(len(x), V)
                torch.mm(x, self.W.T, out=z)
            else:
                z = self.scores[: len(x) * V].view(V, len(x))
                z = torch.mm(self.W, x.T, out=z).T
            if self.dX is not None:
                torch.mm(z, self.W, out=self.dX[start : start + self.chunk])
            # beta 0 starts the sum over: the first product needs no zeros.
            torch.addmm(self.dW, z.T, x, beta=int(start > 0), out=self.dW)


@torch.no_grad()
def fastest(
    X: Tensor, W: Tensor, layouts: Sequence[str] = LAYOUTS, *, fixed: bool = False
) -> Products:
    """The best of all candidates: one pass each, then a second one of the three best.

    X that is `fixed` gets no gradient: two products are left.
    """
    X, W = X.detach().float().flatten(0, -2), W.detach().float()
    sample = X[:SAMPLE]
    chunks = [chunk for chunk in CHUNKS if chunk <= len(sample)] or [len(sample)]
    candidates = [(layout, chunk) for layout in layouts for chunk in chunks]

    def cost(candidate: tuple[str, int]) -> float:
        return seconds(Products(sample, W, *candidate, fixed=fixed))

    torch.mm(sample, W.T)  # the first product of a process starts its threads
    costs = {candidate: cost(candidate) for candidate in candidates}
    for candidate in sorted(candidates, key=costs.__getitem__)[:3]:
        costs[candidate] = min(costs[candidate], cost(candidate))
    return Products(X, W, *min(candidates, key=costs.__getitem__), fixed=fixed)


def speed() -> str:
    """One line."""
    a, b = torch.randn(2048, 576), torch.randn(576, 49_152)
    out = torch.empty(2048, 49_152)
    best = min(seconds(lambda: torch.mm(a, b, out=out)) for _ in range(5))
    gflops = 2 * 2048 * 576 * 49_152 / best / 1e9
    return f"{torch.get_num_threads()} threads, torch {torch.__version__}, {gflops:.0f} GFLOP/s"


if __name__ == "__main__":
    print(speed())
