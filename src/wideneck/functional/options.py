"""What the fused loss is asked for, in bundles: from the public functions to the passes."""

from dataclasses import dataclass
from typing import NamedTuple, final

from torch import Tensor

from wideneck.functional.forms import Form
from wideneck.functional.shard import WHOLE, Shard


@final
@dataclass(frozen=True)
class LossOptions:
    """The arguments of `linear_cross_entropy` that are no tensors, under its names.

    In the order in which operators take them (`op.ENCODED`).
    """

    reduction: str = "mean"
    ignore_index: int = -100
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    chunk_size: int | None = None
    narrow: bool = False
    """Whether products of bfloat16 are asked for, by dtypes or by the caller's autocast, which
    neither a backward pass nor an operator can see: no argument of the function's."""


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


@final
@dataclass(frozen=True)
class Layer:
    """An output layer on its tokens, as the fused passes take it."""

    X: Tensor
    """(N, K, D)."""
    W: Tensor
    """(V, D), or this process's rows of it."""
    b: Tensor | None
    """(V,)."""
    log_prior: Tensor | None
    """(N, K), None where K is 1."""
    scale: Tensor | None
    """(), factor of the products X W', which b already has; None for 1."""
    form: Form
    shard: Shard = WHOLE

    @property
    def vocab_size(self) -> int:
        """Rows of W over all processes."""
        return len(self.W) if self.shard.is_whole else self.shard.vocab_size


class Wanted(NamedTuple):
    """Which gradients to compute."""

    input: bool = False
    weight: bool = False
    bias: bool = False
    log_prior: bool = False
    scale: bool = False
    parameters: bool = False

    def of(self, tensors: tuple, fixed: int) -> list[Tensor]:
        """Those of X, W, b, log_prior, scale, others, from `fixed` on parameters that get one."""
        chosen = [tensor for tensor, want in zip(tensors, self[:-1], strict=False) if want]
        return [*chosen, *(tensors[fixed:] if self.parameters else ())]


NOTHING = Wanted()
ABOVE = len(NOTHING) - 1
"""How many tensors come first and may get a gradient: those of `Layer`."""
