"""What `python -m bench heads` runs.

N tokens, K components, D hidden, V vocabulary.  `rows` names the implementations, which are in
bench/peers.py, each with its timed rounds: five or more where a limit or a near peer is at
stake, fewer for what is slow or told for information, one where the first call must do.
"""

from dataclasses import dataclass, replace
from importlib.util import find_spec

OURS = "wideneck"
SOFTMAX = "wideneck, softmax"
NONE = "wideneck, reduction none"
OUTPUTS = "wideneck, token outputs"
"""Log-probability, entropy and top-1, of which the first is learned from."""
ENTROPY = "wideneck, token outputs, entropy learned"
TEACHER = "wideneck, divergence from a teacher's states"
"""KL(teacher || student), of an alike teacher."""
JSD = "wideneck, the same with beta 0.5"
TEACHER_LIMIT = 1.25
"""The most that a divergence may take, over the products of both."""
BIAS = "wideneck, with a bias"
SMOOTHING = "wideneck, label smoothing"
OUTPUTS_LIMIT = 1.10
"""The most that token outputs may take, over the loss with reduction "none"."""
COMPILED = "torch.compile of naive"
X_TRANSFORMERS = "x-transformers"


@dataclass(frozen=True)
class Case:
    """Sizes, limits and rows of one table."""

    N: int
    D: int
    V: int
    limit: float
    """Forward and backward pass of ours, over the floor."""
    rows: dict[str, int]
    K: int | None = None
    activation: str = "softmax"
    dtype: str = "float32"
    softmax_limit: float | None = None
    """The same over our own softmax."""

    def scaled(self, scale: float) -> "Case":
        """A smaller case of the same form, to try the benchmark out."""
        return replace(self, N=max(8, round(self.N * scale)), V=max(64, round(self.V * scale)))

    @property
    def installed(self) -> list[str]:
        """The rows that can run here."""
        has = find_spec("x_transformers") is not None
        return [row for row in self.rows if row != X_TRANSFORMERS or has]

    def __str__(self) -> str:
        components = f"K {self.K}, " if self.K else ""
        return f"N {self.N:,}, {components}d {self.D}, V {self.V:,}, {self.dtype}"


def _ours(rounds: int, with_bias: int = 3) -> dict[str, int]:
    return {OURS: rounds, BIAS: with_bias, **dict.fromkeys((NONE, OUTPUTS, ENTROPY), rounds)}


CASES = {
    "softmax": Case(
        N=2048,
        D=576,
        V=49_152,
        limit=1.15,
        rows={
            **_ours(5),
            SMOOTHING: 3,
            TEACHER: 5,
            JSD: 5,
            "naive": 5,
            "F.linear_cross_entropy": 2,
            "F.linear_cross_entropy, chunk 512": 5,
            "F.linear_cross_entropy, chunk 1024": 5,
        },
    ),
    "sigsoftmax": Case(
        N=2048,
        D=576,
        V=49_152,
        activation="sigsoftmax",
        limit=1.20,
        softmax_limit=1.10,
        rows={
            OURS: 5,
            SOFTMAX: 5,
            **_ours(5),
            SMOOTHING: 3,
            "wideneck, gss": 3,
            "wideneck, gss with a learned slope": 3,
            "naive": 5,
            COMPILED: 5,
        },
    ),
    "mos": Case(
        N=1024,
        K=15,
        D=280,
        V=10_000,
        limit=1.15,
        rows={**_ours(5), "zihangdai/mos": 5, X_TRANSFORMERS: 5},
    ),
    "moss": Case(
        N=1024,
        K=4,
        D=280,
        V=10_000,
        activation="sigsoftmax",
        limit=1.25,
        rows={**_ours(7, with_bias=5), SMOOTHING: 3, "zihangdai/mos": 7, X_TRANSFORMERS: 7},
    ),
    "bfloat16": Case(
        N=512,
        D=400,
        V=33_278,
        dtype="bfloat16",
        limit=1.35,
        rows={OURS: 7, BIAS: 5, "naive": 1, "F.linear_cross_entropy": 5},
    ),
}
