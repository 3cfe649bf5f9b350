"""What an activation is: a pointwise map f with p_i = exp(f(z_i)) / sum_j exp(f(z_j)).

One frozen dataclass says its formula, what it learns, where it starts and what the docs say of it.
Importing this imports no torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from wideneck.registry import check_flag, check_number, name_of

if TYPE_CHECKING:
    from torch import Tensor

Number: TypeAlias = "float | Tensor"
Probe: TypeAlias = Callable[[], Any]
"""Measures the `LogitRange` of a model, see `wideneck.attached.probe`."""

KANAI = "Kanai et al. 2018, arXiv:1805.10829"
THREE_PRODUCTS = "three matrix products"


@dataclass(frozen=True, kw_only=True)
class Activation(ABC):
    """What the activations have in common; never itself one.

    f(z) = s(a z + c), up to a constant that no probability sees.  a and c are linear in the hidden
    state and the bias, so the loss puts them on the narrow side, where they cost nothing and
    autograd knows their gradients; `log_score` and `derivative` are those of s.  s is increasing (a
    relu weakly), so that the largest score of a row has the largest s.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str]
    cost: ClassVar[str]
    learnable: ClassVar[tuple[str, ...]] = ()
    """Fields that may be tensors, and are learned where `learned` is true."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Those of them that count by their size, as f must not fall."""

    def __post_init__(self):
        for name in self.learnable:
            check_number(name_of, self, name, positive=name in self.positive, tensor=True)
        if self.learnable:
            check_flag(name_of, self, "learned")

    @property
    def linear(self) -> bool:
        """Whether log-probabilities are linear in the scores, up to their normalizer."""
        return self.is_identity

    @property
    def is_identity(self) -> bool:
        """Whether s(z) is z."""
        return False

    def affine(self) -> tuple[Number, Number]:
        """The numbers a and c."""
        return 1.0, 0.0

    def parameters(self, like: "Tensor") -> "list[Tensor]":
        """What s itself has to learn, of the dtype and device of `like`."""
        return []

    @abstractmethod
    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        """s(z), finite for every z far inside its dtype's range; z is at least float32."""

    @abstractmethod
    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        """s'(z)."""

    def parameter_gradients(
        self, z: "Tensor", weight: "Tensor", *parameters: "Tensor"
    ) -> "list[Tensor]":
        """Sums of weight * ds/dtheta over z, one for each of `parameters`."""
        assert not parameters, f"{type(self).__name__} has parameters and tells no gradients"
        return []

    def told_apart_(self, z: "Tensor") -> "Tensor":
        """What s sees of z, in place: scores are equal where s is, and else in the same order."""
        return z

    @abstractmethod
    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        """The numbers from which a head starts at a model's predictions; learned from there on.

        Args:
            given: the fields that the user has set, which stay.
            probe: called only where the start depends on the range of the logits.
            model: its name.

        Raises:
            WideneckError: there are no such numbers.
        """

    def raw(self) -> dict[str, tuple[int, float]]:
        """What a head learns: names of parameters, how many numbers each has, where they start."""
        names = self.learnable if getattr(self, "learned", False) else ()
        return {name: (1, getattr(self, name)) for name in names}

    def learning(self, raw: "Mapping[str, Tensor]") -> "Activation":
        """The activation with the present numbers of `raw`."""
        numbers = {name: values[0] for name, values in raw.items()}
        return replace(
            self, **{n: x.abs() if n in self.positive else x for n, x in numbers.items()}
        )

    @property
    def num_learned(self) -> int:
        """Numbers of `raw`."""
        return sum(count for count, _ in self.raw().values())

    @property
    def num_learned_formula(self) -> str:
        """`num_learned` in words."""
        return str(self.num_learned)


@dataclass(frozen=True, kw_only=True)
class Linear(Activation):
    """f(z) = a z."""

    cost = THREE_PRODUCTS

    @property
    def is_identity(self) -> bool:
        return True

    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return z

    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return z.new_ones(z.shape)

    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        return {}  # exactly there, with scale 1


@dataclass(frozen=True, kw_only=True)
class Shifted(Activation):
    """f(z) = s(z + shift)."""

    shift: Number = 0.0
    """Added to every logit."""
    learned: bool = False
    """Whether the shift is learned."""

    learnable = ("shift",)

    def affine(self) -> tuple[Number, Number]:
        return 1.0, self.shift
