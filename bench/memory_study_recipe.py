"""How every model of the memory study is trained and measured.  Imports no torch."""

from dataclasses import dataclass
from typing import Any

ARMS: dict[str, dict[str, Any]] = {
    "untrained": {},
    "plain": {"loss": "cross_entropy", "alpha": 0.0},
    "TRIME": {"alpha": 0.0},
    "HistAlign": {},
}
"""What is trained: options of `wideneck.Memory`, everything else at its defaults."""
CONTINUED = {
    "untrained": ("model",),
    "plain": ("model", "fitted"),
    "TRIME": ("full", "model"),
    "HistAlign": ("full", "model"),
}
"""What continues the prompts: the model without its memory, with the memory as it was trained
("full"), or with a temperature and a bias found afterwards on the validation text ("fitted")."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The same for every arm."""

    window: int = 512
    pool: int = 240
    """Windows of the training text; a seed draws from them what it trains on, and the order."""
    valid: int = 24
    """Windows that temperature and bias are fitted on afterwards."""
    test: int = 40
    trained_layers: int = 4
    """The last ones and the final norm; the others, embedding and output matrix are frozen."""
    steps: int = 48
    batch: int = 2
    """Windows of a step."""
    lr: float = 1e-3
    """The best of 1e-4, 3e-4 and 1e-3 for plain, seed 0, 96 steps, on the validation text."""
    memory_lr: float = 5e-2
    """Of temperature and bias, which at the other rate would stay where they start."""
    weight_decay: float = 0.1
    """Of matrices."""
    warm_up: float = 0.1
    clip: float = 1.0
    prompts: int = 20
    """The first documents of the test text that are long enough."""
    prompt: int = 64
    continuation: int = 128
    top_p: float = 0.95
    common_words: int = 200
    """Of the training text, the most frequent ones, which are no content."""

    def factor(self, step: int) -> float:
        """Of the learning rates: linear warm-up, then linear decay to 0."""
        warm_up = max(1, round(self.warm_up * self.steps))
        if step < warm_up:
            return (step + 1) / warm_up
        return (self.steps - step) / max(1, self.steps - warm_up)
