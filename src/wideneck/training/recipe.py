"""A recipe: everything that decides a run.  Read from TOML by `recipe_file`."""

from dataclasses import asdict, dataclass, field
from typing import Any

from wideneck import config as heads
from wideneck.data.config import Data
from wideneck.models.small.config import ModelConfig, model_to_dict
from wideneck.registry import check_count
from wideneck.training import optimizers
from wideneck.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Text, model, head, optimizer, schedule and seed."""

    data: Data = field(default_factory=Data)
    model: ModelConfig
    head: heads.HeadConfig = heads.Softmax()
    optimizer: optimizers.OptimizerConfig = optimizers.SGD()
    training: Schedule = Schedule()
    seed: int = 0
    """Of the weights at the start, every dropout, and the order of the text."""
    initial: str | None = None
    """Folder of a finished run whose weights this one starts from, as for AWD-LSTM's fine-tuning."""

    def __post_init__(self):
        check_count(lambda _: "a recipe", self, "seed", 0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; what two runs must share to be the same run."""
        return {
            "seed": self.seed,
            "initial": self.initial,
            "data": asdict(self.data),
            "model": model_to_dict(self.model),
            "head": heads.to_dict(self.head),
            "optimizer": {"name": optimizers.name_of(self.optimizer)} | asdict(self.optimizer),
            "training": asdict(self.training),
        }


def difference(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> str | None:
    """The first setting in which two recipes' dictionaries differ, with both values; None if none."""
    for key in {**ours, **theirs}:
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found = difference(a, b, f"{path}{key}.")
            if found:
                return found
        elif a != b:
            return f"{path}{key} is {b!r} there, {a!r} here"
    return None
