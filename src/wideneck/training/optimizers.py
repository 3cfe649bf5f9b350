"""The optimizers of recipes as frozen dataclasses.  Imports no torch.

SGD with averaging is how AWD-LSTMs are trained (Merity, Keskar & Socher 2018, arXiv:1708.02182):
from some moment on the model that counts is the mean of all iterates since.  When that moment
comes, moves the perplexity more than any activation does (sigsoftmax specification, section 2.2).
"""

from dataclasses import dataclass
from math import cos, pi
from typing import Any, ClassVar

from wideneck.errors import WideneckError
from wideneck.registry import check_count, check_number, configure, name_of, shown


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Plain gradient descent at a constant rate, then averaged."""

    name: ClassVar[str] = "sgd"
    learning_rate: float = 30.0
    """Times the share of `segment` that a segment of varied length has."""
    activation_rate: float = 0.02
    """The rate of what an activation learns (a scale, a shift, the slopes of a PLIF), which a rate
    for matrices would throw about; that of the PLIF paper (Ganea et al. 2019, arXiv:1902.08077)."""
    weight_decay: float = 1.2e-6
    """Decay of everything but what an activation learns."""
    clip: float = 0.25
    """Largest norm of the gradient."""
    non_monotone: int = 5
    """NT-ASGD: average once an evaluation is worse than the best of those before it, not counting
    this many of the last ones; 0 for never."""
    average_from: float | None = None
    """Average from this epoch on instead, whatever the evaluations say; 0 from the start."""

    def __post_init__(self):
        check_number(name_of, self, "learning_rate", positive=True)
        check_number(name_of, self, "activation_rate", positive=True)
        check_number(name_of, self, "weight_decay", least=0)
        check_number(name_of, self, "clip", positive=True)
        check_count(name_of, self, "non_monotone", 0)
        if self.average_from is not None:
            check_number(name_of, self, "average_from", least=0)

    def rate(self, progress: float) -> float:
        """The learning rate after this share of the training."""
        return self.learning_rate


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW, rising linearly and then falling as a cosine."""

    name: ClassVar[str] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    """Decay of matrices; vectors (biases, gains, learned numbers of activations) do not decay."""
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    """Largest norm of the gradient."""
    warmup: float = 0.02
    """Share of the training during which the rate rises."""
    final: float = 0.1
    """Share of the rate that is left at the end."""

    def __post_init__(self):
        check_number(name_of, self, "learning_rate", positive=True)
        for name in ("weight_decay", "beta1", "beta2", "warmup", "final"):
            check_number(name_of, self, name, least=0)
        check_number(name_of, self, "clip", positive=True)
        for name in ("beta1", "beta2", "warmup"):
            if getattr(self, name) >= 1:
                raise WideneckError(f"adamw needs {name} < 1, got {shown(getattr(self, name))}.")
        if self.final > 1:
            raise WideneckError(f"adamw needs final <= 1, got {shown(self.final)}.")

    def rate(self, progress: float) -> float:
        """The learning rate after this share of the training."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        fallen = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.learning_rate * (self.final + (1 - self.final) * (1 + cos(pi * fallen)) / 2)


OptimizerConfig = SGD | AdamW

OPTIMIZERS: dict[str, OptimizerConfig] = {"sgd": SGD(), "adamw": AdamW()}
"""Every optimizer by name, with its defaults."""


def optimizer_config(given: "str | dict | OptimizerConfig", **options: Any) -> OptimizerConfig:
    """An optimizer by name, from its dictionary, or as it is; options replace its fields."""
    return configure(given, options, OPTIMIZERS, "optimizer", name_of=name_of)
