"""A recipe: everything that decides a run.  Read from TOML by `recipe_file`.  Imports no torch."""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from wideneck import config as heads
from wideneck.data.config import Data
from wideneck.errors import WideneckError
from wideneck.models.small.config import (
    AwdLstm,
    ModelConfig,
    States,
    Transformer,
    model_to_dict,
)
from wideneck.registry import LARGEST_COUNT, check_count, check_flag, check_number, name_of, shown
from wideneck.training import optimizers

LARGEST_SEED = 2**63 - 1
MOST_EPOCHS = 1e6
MOST_TOKENS = 2**24
"""The limit for a step, all rows together: the largest models are trained with some millions."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The [training] table: how long a recipe trains, in what pieces, and how often it looks.

    All lengths are in epochs, passes over the training text, so that recipes say the same whatever
    the number of processes; fractions are fine.
    """

    name: ClassVar[str] = "training"
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


@dataclass(frozen=True, kw_only=True)
class Watching:
    """The [watch] table: how often the output layer is measured while it is trained.

    The numbers go into metrics.jsonl, which `wideneck watch` shows.
    """

    name: ClassVar[str] = "watch"
    scores_every: int = 10
    """Steps from one look at scores and gradients to the next."""
    weights_every: int = 50
    """The same for the mean row and the lengths of the rows."""
    spectra_every: int = 500
    """The same for stable ranks, singular entropy, effective rank and kept gradient."""
    tokens: int = 512
    """How many tokens of a step are looked at, of all processes together."""
    limit: float = 0.01
    """Share of a step's time that it may take: periods are doubled until it does not take more.
    0 keeps the periods as they are, so that two runs have the same lines."""

    def __post_init__(self):
        for name in ("scores_every", "weights_every", "spectra_every", "tokens"):
            check_count(name_of, self, name, 1)
        check_number(name_of, self, "limit", least=0, most=0.5)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Text, model, head, optimizer, schedule and seed.

    Raises:
        WideneckError: a value of the wrong type or out of range, or settings of [data] that a head
            on states does not follow.
    """

    data: Data = field(default_factory=Data)
    model: ModelConfig
    head: heads.HeadConfig = field(default_factory=heads.Softmax)
    optimizer: optimizers.OptimizerConfig = field(default_factory=optimizers.SGD)
    training: Schedule = field(default_factory=Schedule)
    watch: Watching | None = None
    """None where the recipe has no such table, and nothing is watched."""
    seed: int = 0
    """Decides the weights at the start, every dropout, and the order of the text."""
    initial: str | None = None
    """Folder of a run whose best weights this one starts from, as in AWD-LSTM's fine-tuning."""

    def __post_init__(self):
        check_count(lambda _: "a recipe", self, "seed", 0, LARGEST_SEED)
        if self.initial is not None and not isinstance(self.initial, str):
            raise WideneckError(
                f"a recipe needs the folder of a run for initial, got {shown(self.initial)}."
            )
        if isinstance(self.model, AwdLstm):
            self.training.check_step(self.training.segment)
        elif isinstance(self.model, Transformer):
            self.training.check_step(self.model.context)
        if isinstance(self.model, States) and self.data != Data(text=self.data.text):
            raise WideneckError(
                "A head on states reads the text with its model's own tokenizer; leave tokens, "
                "vocab_size and expect out of [data]."
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; what two runs must share to be the same run.

        `recipe_file.recipe` reads it.
        """
        told = {
            "seed": self.seed,
            "initial": self.initial,
            "data": asdict(self.data),
            "model": model_to_dict(self.model),
            "head": heads.to_dict(self.head),
            "optimizer": {"name": self.optimizer.name} | asdict(self.optimizer),
            "training": asdict(self.training),
        }
        # Runs that began before there was such a table have none.
        return told if self.watch is None else {**told, "watch": asdict(self.watch)}
