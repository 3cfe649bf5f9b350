"""How long a recipe trains, in what pieces, and how often it looks.  Imports no torch.

All lengths are in epochs, passes over the training text, so that recipes say the same whatever
the number of processes; fractions are fine.
"""

from dataclasses import dataclass

from wideneck.errors import WideneckError
from wideneck.registry import LARGEST_COUNT, check_count, check_flag, check_number

MOST_EPOCHS = 1e6
MOST_TOKENS = 2**24
"""The limit for a step, all rows together: the largest models are trained with some millions."""


def name_of(config: "Schedule") -> str:
    """What messages call it."""
    return "training"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The [training] table of a recipe."""

    epochs: float = 1.0
    batch_size: int = 20
    """Rows of a step, of all processes together: texts side by side, windows, or tokens where a
    head is trained alone."""
    segment: int = 70
    """Tokens of a step in every row, for models that carry a state; windows have their context."""
    varied: bool = True
    """Segments of varied length, as AWD-LSTMs are trained: normal around `segment` (1 in 20 times
    around half of it) with a deviation of 5, at least 5."""
    longest: int | None = None
    """Segments are at most this many tokens longer than `segment`; None for no limit."""
    evaluate_every: float = 1.0
    evaluation_batch_size: int = 10
    """Rows in which validation and test text are read, texts of equal length side by side."""
    test_batch_size: int | None = None
    """Rows of the test text, 1 in the papers; None for evaluation_batch_size.  Cached states have
    no rows."""
    evaluation_tokens: int | None = None
    """Validate and test on this many tokens from the start of each split; None for all."""
    patience: int | None = None
    """Stop after this many evaluations in a row without a new best; None for never."""
    log_every: int = 100
    """Steps between two lines of metrics."""
    checkpoint_every: float = 300.0
    """Seconds between two checkpoints; there is one after every evaluation too."""

    def __post_init__(self):
        for name in ("epochs", "evaluate_every"):
            check_number(name_of, self, name, positive=True, most=MOST_EPOCHS)
        for name in ("batch_size", "segment", "evaluation_batch_size"):
            check_count(name_of, self, name, 1, MOST_TOKENS)
        check_count(name_of, self, "log_every", 1)
        check_flag(name_of, self, "varied")
        check_number(name_of, self, "checkpoint_every", least=0)
        for name, least, most in (
            ("test_batch_size", 1, MOST_TOKENS),
            ("patience", 1, LARGEST_COUNT),
            ("longest", 0, MOST_TOKENS),
            ("evaluation_tokens", 2, LARGEST_COUNT),
        ):
            if getattr(self, name) is not None:
                check_count(name_of, self, name, least, most)

    def check_step(self, length: int) -> None:
        """Refuse rows of this length if a step would have more than `MOST_TOKENS`."""
        for name in ("batch_size", "evaluation_batch_size", "test_batch_size"):
            rows = getattr(self, name)
            if rows is not None and rows * length > MOST_TOKENS:
                raise WideneckError(
                    f"training needs at most {MOST_TOKENS:,} tokens in a step, got {rows:,} rows "
                    f"({name}) of {length:,} tokens."
                )
