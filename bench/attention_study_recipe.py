"""How every model of the attention study is made, trained and measured.  Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The same for every normalizer; chosen by softmax alone, so that it learns the needles."""

    steps: int = 600
    batch: int = 8
    """Sequences of a step at the training context; as many tokens at the shorter one."""
    context: int = 256
    early_context: int = 64
    early_share: float = 0.5
    """Of the steps, the first ones, in the shorter context; without them no needle is learned."""
    layers: int = 2
    heads: int = 2
    hidden: int = 128
    intermediate: int = 256
    init: float = 0.06
    lr: float = 3e-3
    warm_up: float = 0.05
    final_lr: float = 0.05
    weight_decay: float = 0.1
    clip: float = 1.0
    blocks: int = 48
    """Held-out text, in blocks of four contexts."""
    haystacks: int = 64
    """Needle sequences of each length."""
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024)

    @property
    def early_steps(self) -> int:
        return round(self.steps * self.early_share)
