"""What the attention section is free to choose, with its defaults.  Imports no torch.

The paper leaves several of these open (which vectors, which keys, which level); each is a field
here, and a report repeats the ones it used.
"""

from dataclasses import dataclass

from wideneck.errors import WideneckError
from wideneck.registry import check_count, check_flag

VECTORS = ("values", "hidden", "embeddings")


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """How attention heads are measured."""

    context: int = 512
    """Tokens in a window, those that the tokenizer puts in front included.  The paper: 1,024."""
    num_windows: int = 4
    """Windows of text.  The paper says "consecutive chapters"."""
    sizes: tuple[int, ...] = (1, 5, 10, 20, 100)
    """N, the number of selected keys."""
    reference_size: int = 5
    """The N of the heat maps and of the curves over context length; one of `sizes`."""
    num_queries: int | None = 64
    """Queries of each window that geometry and Jacobians are measured for, at equal distances;
    None for all, as in the paper.  Entropy and sinks are of all queries in any case."""
    vectors: str = "values"
    """What x_i is: "values" of the head, "hidden" states entering the layer, or "embeddings"."""
    normalize_distance: bool = False
    """Whether x_i is brought to length 1 for the distances."""
    normalize_geometry: bool = True
    """Whether x_i is brought to length 1 for the separability, as the theorem assumes."""
    include_masked: bool = False
    """Whether future keys count as not selected, of weight 0: the literal reading."""
    drop_first: bool = False
    """Whether the first key, which many heads use as a sink, is left out of the geometry."""
    draws: int = 1
    """Random sets drawn for each query by the Monte Carlo estimate."""
    critical_up_to: int = 0
    """Largest N of the scan for the critical N; 0 for no scan.  The paper's needs 100."""
    level: float = 0.01
    """Level of the Kolmogorov-Smirnov test.  The paper's text says 0.01, its algorithm 0.05."""
    temperatures: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """T of the finite differences, dividing the raw scores q k; the model's own T is added."""
    steps: tuple[float, ...] = (1e-3, 1e-1, 10.0)
    """Lengths of the step of the finite differences."""
    ablation_context: int = 256
    """Tokens from the start of each window that a head's ablation is measured on; 0 for none."""

    def __post_init__(self):
        def name(_) -> str:
            return "The attention section"

        for field in ("num_windows", "draws", "reference_size"):
            check_count(name, self, field, 1)
        check_count(name, self, "context", 2)
        for field in ("critical_up_to", "ablation_context"):
            check_count(name, self, field, 0)
        if self.num_queries is not None:
            check_count(name, self, "num_queries", 1)
        for field in ("normalize_distance", "normalize_geometry", "include_masked", "drop_first"):
            check_flag(name, self, field)
        if self.vectors not in VECTORS:
            raise WideneckError(f"vectors is one of {', '.join(VECTORS)}, got {self.vectors!r}.")
        if not 0 < self.level < 1:
            raise WideneckError(f"The level of the test lies between 0 and 1, got {self.level!r}.")
        self._check_sizes()

    def _check_sizes(self) -> None:
        good = [isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in self.sizes]
        if not good or not all(good) or sorted(set(self.sizes)) != list(self.sizes):
            raise WideneckError(
                f"sizes is one or more whole numbers above 0, ascending, got {self.sizes!r}."
            )
        if self.reference_size not in self.sizes:
            raise WideneckError(
                f"reference_size is one of the sizes {self.sizes}, got {self.reference_size}: give "
                "one of them."
            )
        if max(*self.sizes, self.critical_up_to) >= self.context:
            raise WideneckError(
                f"A context of {self.context} tokens has no query with more than "
                f"{max(*self.sizes, self.critical_up_to)} keys to choose from: take a longer "
                "context or smaller sizes."
            )
        for field in ("temperatures", "steps"):
            values = getattr(self, field)
            if not values or not all(1e-6 <= x < float("inf") for x in values):
                raise WideneckError(f"{field} are finite numbers from 1e-6 on, got {values!r}.")
