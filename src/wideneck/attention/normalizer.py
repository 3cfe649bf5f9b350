"""What a normalizer of attention is.  Imports no torch.

A normalizer turns the scores l of one query against its visible keys, n of them, into weights p.
Scores are (..., K) in at least float32, `visible` is boolean and broadcasts to them (None where
every key is visible), n is (..., 1).  A row without a visible key gets zeros.  No formula reads a
value, so that graphs can be traced and derivatives taken of any order.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from wideneck.attention.jacobian import Jacobian

Number: TypeAlias = "float | Tensor"
"""A tensor has one number per row of scores (..., K): per head of (B, H, Q, K), shape (H, 1, 1)."""


@dataclass(frozen=True, kw_only=True)
class Normalizer(ABC):
    """What the normalizers have in common; never itself one.

    The flags say what a normalizer promises of a row with a visible key.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str] = "-"
    jacobian: ClassVar[str]
    """The largest spectral norm of dp/dl, in words."""
    fused: ClassVar[bool] = False
    """Whether it runs in PyTorch's own attention, as every `SoftmaxLike` does and no other."""
    sums_to_one: ClassVar[bool] = True
    may_be_sparse: ClassVar[bool] = False
    """Visible keys may get exactly 0."""
    may_abstain: ClassVar[bool] = False
    """The row may sum to less than 1."""
    reads_hidden: ClassVar[bool] = False
    """Whether its learned numbers are made of the hidden states that enter the attention layer."""
    is_scaled: ClassVar[bool] = False
    """Whether it has a `factor`."""

    @abstractmethod
    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        """P (..., K); of hidden keys the scores may be anything finite.

        Args:
            scores: (..., K).
            visible: broadcasts to them; None where every key is visible.
            n: (..., 1), where it is not the number of visible scores: a sink that the model has of
                its own is one of these, and no key.
        """

    @abstractmethod
    def derivative(self, weights: "Tensor", n: "Tensor") -> "Jacobian | None":
        """The closed form of dp/dl at p; None where there is none of that kind."""

    @abstractmethod
    def largest_norm(self, n: int) -> float:
        """The spectral norm of dp/dl that no row of n visible keys exceeds; inf without a bound."""

    def factor(self, n: "Tensor") -> Any:
        """The factor on the scores, a number or (..., 1)."""
        return 1.0

    @property
    def learns(self) -> tuple[str, ...]:
        """Names of the parameters of a module that learns.

        Each is one number per head, or a vector of the width of the hidden states that it reads.
        """
        return ()

    def start_of(self, name: str) -> Any:
        """Where such a parameter starts."""
        return getattr(self, name)

    def learning(self, raw: "Mapping[str, Tensor]") -> "Normalizer":
        """The config with the present numbers of `learns`: (H, 1, 1), or as read (B, H, Q, 1)."""
        return replace(self, **raw)

    def check_start(self) -> None:  # noqa: B027  most can start anywhere
        """Raises a WideneckError where a module cannot start from these numbers."""

    def scaled(self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None") -> "Tensor":
        """The scores under their factor."""
        if not self.is_scaled:  # a product with 1 would be a pass over all scores
            return scores
        return scores * self.factor(count(scores, visible, n))


@dataclass(frozen=True, kw_only=True)
class OfScaledScores(Normalizer):
    """An entmax of scaled scores, of an `alpha` >= 1 that is a number or (..., 1), or a softmax."""

    @property
    def alpha(self) -> Any:
        """None for a softmax, whose weights may also shrink together."""
        return None

    def derivative(self, weights: "Tensor", n: "Tensor") -> "Jacobian | None":
        from wideneck.attention.jacobian import of_entmax

        return of_entmax(weights, n, self)

    def largest_norm(self, n: int) -> float:
        from wideneck.attention.jacobian import largest_of_entmax

        return largest_of_entmax(self, n)


def count(scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None) -> "Tensor":
    """n: visible keys of each row, (..., 1), in the dtype of the scores; as given, if it is."""
    if n is not None:
        return n.to(scores.dtype)
    if visible is None:
        return scores.new_full((1,) * max(1, scores.ndim), scores.shape[-1])
    return visible.expand(scores.shape).sum(-1, keepdim=True, dtype=scores.dtype)


def hide(values: "Tensor", visible: "Tensor | None", by: float = 0.0) -> "Tensor":
    """The values, with `by` for those of hidden keys."""
    return values if visible is None else values.masked_fill(~visible, by)
