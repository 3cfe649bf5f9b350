"""A recipe: everything that decides a run.  Read from TOML by `recipe_file`."""

from dataclasses import asdict, dataclass, field
from typing import Any

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
from wideneck.registry import check_count, shown
from wideneck.training import optimizers
from wideneck.training.schedule import Schedule

LARGEST_SEED = 2**63 - 1


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
        return {
            "seed": self.seed,
            "initial": self.initial,
            "data": asdict(self.data),
            "model": model_to_dict(self.model),
            "head": heads.to_dict(self.head),
            "optimizer": {"name": optimizers.name_of(self.optimizer)} | asdict(self.optimizer),
            "training": asdict(self.training),
        }
