"""The numbers of dynamic evaluation and of a neural cache: frozen dataclasses, no torch."""

from dataclasses import dataclass

from wideneck.errors import WideneckError
from wideneck.registry import check_count, check_number, did_you_mean

SIZE = 2000
"""Pairs that the cache holds: the larger of the paper's on WikiText."""

SCALINGS = ["new", "old"]


def _dynamic(_: "DynamicEvaluation") -> str:
    return "Dynamic evaluation"


@dataclass(frozen=True, kw_only=True)
class DynamicEvaluation:
    """The numbers of the rule.  The defaults are those of the released code."""

    learning_rate: float = 5e-5
    """Eta."""
    decay: float = 2e-3
    """Lambda."""
    epsilon: float = 2e-5
    segment: int = 5
    """Tokens between two updates, where the backbone carries a state."""
    scaling: str = "new"
    """Scaling of the statistics: "new", as the paper has it, or "old", as its numbers were made."""

    def __post_init__(self):
        check_number(_dynamic, self, "learning_rate", least=0)
        check_number(_dynamic, self, "decay", positive=True)
        check_number(_dynamic, self, "epsilon", positive=True)
        check_count(_dynamic, self, "segment", 1)
        if self.scaling not in SCALINGS:
            raise WideneckError(
                f"No scaling of dynamic evaluation is called {self.scaling!r}."
                f"{did_you_mean(str(self.scaling), SCALINGS)}"
            )

    @classmethod
    def published(cls) -> "DynamicEvaluation":
        """As for AWD-LSTM in Krause et al., on PTB and on WikiText-2."""
        return cls(learning_rate=2e-3, decay=2e-2, epsilon=1e-3, scaling="old")


def _cache(_: "NeuralCache") -> str:
    return "A neural cache"


@dataclass(frozen=True, kw_only=True)
class NeuralCache:
    """The three numbers of a cache."""

    size: int = SIZE
    """Pairs that it holds."""
    theta: float
    """Factor of the dot products; 0 counts."""
    weight: float
    """Its share of the probability, lambda in the paper; 0 leaves it out."""

    def __post_init__(self):
        check_count(_cache, self, "size", 1)
        check_number(_cache, self, "theta", least=0)
        check_number(_cache, self, "weight", least=0)
        if self.weight >= 1:
            raise WideneckError(f"A neural cache needs 0 <= weight < 1, got {self.weight}.")
