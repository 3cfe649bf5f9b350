"""What the fused loss is asked for, in one bundle: from the public functions to the operator."""

from dataclasses import dataclass
from typing import final

from torch import Tensor


@final
@dataclass(frozen=True)
class LossOptions:
    """The arguments of `linear_cross_entropy` that are no tensors, under its names."""

    reduction: str = "mean"
    ignore_index: int = -100
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    chunk_size: int | None = None

    def encode(self) -> tuple[str, list[int], list[float]]:
        """The same, in what an operator's signature can hold."""
        return (
            self.reduction,
            [self.ignore_index, self.chunk_size or 0],
            [float(self.z_loss), float(self.label_smoothing)],
        )

    @classmethod
    def decode(cls, reduction: str, whole: list[int], numbers: list[float]) -> "LossOptions":
        """What `encode` was given."""
        ignore_index, chunk_size = whole
        z_loss, label_smoothing = numbers
        return cls(reduction, ignore_index, z_loss, label_smoothing, chunk_size or None)


@final
@dataclass(frozen=True)
class Targets:
    """What is to be predicted: ids, class probabilities, or probabilities of a few ids."""

    ids: Tensor | None
    """(N,) token ids; (N, M) where `probs` are theirs; None where they are of all V."""
    probs: Tensor | None = None
    """(N, V) or (N, M), over the whole vocabulary; None for a target of one id."""
    class_weight: Tensor | None = None
    """(V,), what each class counts, over the whole vocabulary."""
