"""Every activation: `ACTIVATIONS` is the one list of them.

The loss, the heads, `wideneck heads`, recipes, saved configs, tests and docs read it.  Importing
this imports no torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wideneck.activation import KANAI, Activation, Linear, Number, Probe, Shifted
from wideneck.errors import WideneckError
from wideneck.registry import NOT_A_TENSOR, check_count, check_number, name_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Softmax(Linear):
    """The plain softmax: the baseline."""

    name = "softmax"
    formula = "f(z) = z"
    paper = "-"


@dataclass(frozen=True, kw_only=True)
class ScaledSoftmax(Linear):
    """A softmax of fixed or learned scale: the control for everything that changes the slope."""

    scale: Number = 1.0
    """Factor a of the logits, the inverse of a temperature."""
    learned: bool = True

    name = "scaled_softmax"
    formula = "f(z) = a z"
    paper = "control of ours"
    learnable = positive = ("scale",)

    def affine(self) -> tuple[Number, Number]:
        return self.scale, 0.0


@dataclass(frozen=True, kw_only=True)
class Sigsoftmax(Shifted):
    """Softmax times sigmoid; not shift-invariant, which is where its extra rank comes from.

    Shifted far above 0 it is a softmax, far below one of scale 2.
    """

    name = "sigsoftmax"
    formula = "f(z) = z + log sigmoid(z)"
    paper = KANAI
    cost = "softmax + one light pass over the scores"

    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return z + _log_sigmoid(z)

    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return 1 + (-z).sigmoid()

    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        """Above all logits, where log sigmoid(w) lies within e^-w of 0."""
        if "shift" in given:
            return {}
        logits = probe()
        return {"shift": logits.margin - logits.lowest}


@dataclass(frozen=True, kw_only=True)
class GSS(Activation):
    """Generalized sigsoftmax: slope k far below the bend c, slope 1 far above it."""

    bend: Number = 0.0
    """c, the logit at which the slope passes (1 + k) / 2."""
    slope: Number = 2.0
    """k > 0; 1 is the softmax, and (c, k) = (0, 2) the sigsoftmax."""
    learned: bool = False
    """Whether bend and slope are learned."""

    name = "gss"
    formula = "f(z) = w + (k-1) log sigmoid(w), w = z-c"
    paper = "Parthiban, Mao & Inkpen, AAAI 2021"
    cost = "softmax + two passes (three if learned)"
    learnable = ("bend", "slope")
    positive = ("slope",)

    @property
    def linear(self) -> bool:
        return not self.learned and isinstance(self.slope, int | float) and self.slope == 1

    def affine(self) -> tuple[Number, Number]:
        return 1.0, -self.bend

    def parameters(self, like: "Tensor") -> "list[Tensor]":
        k = self.slope
        return [like.new_tensor(k) if isinstance(k, int | float) else k]

    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        (k,) = parameters
        return z + (k - 1) * _log_sigmoid(z)

    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        (k,) = parameters
        return 1 + (k - 1) * (-z).sigmoid()

    def parameter_gradients(
        self, z: "Tensor", weight: "Tensor", *parameters: "Tensor"
    ) -> "list[Tensor]":
        return [(_log_sigmoid(z) * weight).sum()]

    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        """Exactly there, with slope 1, and bent where most of the probability is."""
        start: dict[str, Any] = {} if "slope" in given else {"slope": 1.0}
        return start if "bend" in given else {**start, "bend": probe().mean}


@dataclass(frozen=True, kw_only=True)
class ReLU(Activation):
    """The foil of the sigsoftmax paper: high rank, but gradients that explode or die."""

    epsilon: float = 1e-8
    """Keeps the logarithm finite; ours, the paper's value could not be checked."""

    name = "relu"
    formula = "f(z) = log(max(z, 0) + epsilon)"
    paper = KANAI
    cost = "softmax + one pass over the scores"

    def __post_init__(self):
        check_number(name_of, self, "epsilon", positive=True)

    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return (z.relu() + self.epsilon).log()

    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return (z > 0) / (z.relu() + self.epsilon)

    def told_apart_(self, z: "Tensor") -> "Tensor":
        return z.relu_()

    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        raise WideneckError(
            "A relu head cannot start from a model's predictions, because it gives all negative "
            "logits one probability: build it with wideneck.heads.build and train from scratch."
        )


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Shifted):
    """The other foil: gradients vanish for large logits.  Shifted far below 0 it is a softmax."""

    name = "sigmoid"
    formula = "f(z) = log sigmoid(z)"
    paper = KANAI
    cost = "softmax + one pass over the scores"

    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return _log_sigmoid(z)

    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return (-z).sigmoid()

    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        """Below all logits, where log sigmoid(w) lies within e^w of w."""
        if "shift" in given:
            return {}
        logits = probe()
        return {"shift": -logits.margin - logits.highest}


@dataclass(frozen=True, kw_only=True)
class SoftCap(Activation):
    """A softmax of logits held between -cap and cap, as Gemma 2 has it."""

    cap: float = 30.0

    name = "softcap"
    formula = "f(z) = cap tanh(z / cap)"
    paper = "Gemma 2, arXiv:2408.00118"
    cost = "softmax + one pass over the scores"

    def __post_init__(self):
        check_number(name_of, self, "cap", positive=True)

    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return self.cap * (z / self.cap).tanh()

    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        return 1 - (z / self.cap).tanh().square()

    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        raise WideneckError(
            f"A softcap cannot start from the predictions of {model}, which has no soft cap: "
            "build it with wideneck.heads.build and train from scratch."
        )


@dataclass(frozen=True, kw_only=True)
class PLIF(Activation):
    """A learned increasing, piecewise linear map of the logits, shared by all tokens."""

    num_knots: int = 100_000
    """Evenly spaced; the paper uses 100,000."""
    reach: float = 20.0
    """The knots lie between -reach and reach; outside, the last slopes go on."""
    values: "Tensor | None" = None
    """f at the knots, shape (num_knots,), best in float64; None for f(z) = z, the softmax."""

    name = "plif"
    formula = "f piecewise linear, slopes > 0 learned"
    paper = "Ganea et al. 2019, arXiv:1902.08077"
    cost = "softmax + several passes over the scores"

    def __post_init__(self):
        check_number(name_of, self, "reach", positive=True)
        check_count(name_of, self, "num_knots", 2)
        if self.values is None:
            return
        if isinstance(self.values, NOT_A_TENSOR):
            raise WideneckError(f"plif needs a tensor for values, got {self.values!r}.")
        if tuple(self.values.shape) != (self.num_knots,):
            raise WideneckError(
                f"plif needs one value for each of its {self.num_knots} knots, got shape "
                f"{tuple(self.values.shape)}."
            )

    @property
    def linear(self) -> bool:
        return False  # what it learns is not

    @property
    def is_identity(self) -> bool:
        return self.values is None

    def parameters(self, like: "Tensor") -> "list[Tensor]":
        """F at all but the last knot, and the rise, > 0, from each to the next.

        Differences of the former would lose the digits that the pieces far outside depend on.
        """
        if self.values is None:
            return []
        return [self.values[:-1].to(like.dtype), self.values.diff().to(like.dtype)]

    def log_score(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        starts, rises = parameters
        left, right = self.place(z, rises)
        return taken(starts, left) + right * taken(rises, left)

    def derivative(self, z: "Tensor", *parameters: "Tensor") -> "Tensor":
        _, rises = parameters
        left, _ = self.place(z, rises)
        return taken(rises, left) / self.step(rises)

    def parameter_gradients(
        self, z: "Tensor", weight: "Tensor", *parameters: "Tensor"
    ) -> "list[Tensor]":
        starts, rises = parameters
        left, right = self.place(z, rises)
        left, zero = left.flatten(), starts.new_zeros(starts.shape, dtype=weight.dtype)
        return [zero.index_add(0, left, part.flatten()) for part in (weight, weight * right)]

    def step(self, rises: "Tensor") -> float:
        """From one knot to the next."""
        return 2 * self.reach / len(rises)

    def place(self, z: "Tensor", rises: "Tensor") -> "tuple[Tensor, Tensor]":
        """The knot left of z, and how far z is on the way to the next: outside, beyond [0, 1]."""
        position = (z + self.reach) / self.step(rises)
        # NaN has no knot; it stays in `right`, so the result is NaN.
        left = position.nan_to_num(0.0).clamp(0, len(rises) - 1).floor()
        return left.long(), position - left

    def start(self, given: set[str], probe: Probe, model: str) -> dict[str, Any]:
        return {}  # exactly there, as the softmax

    def raw(self) -> dict[str, tuple[int, float]]:
        """v, with slopes softplus(v) that start at 1."""
        return {"v": (self.num_knots - 1, math.log(math.e - 1))}

    def learning(self, raw: "Mapping[str, Tensor]") -> "Activation":
        from torch.nn.functional import pad, softplus

        # In float64: 100,000 steps summed in float32 would bend the straight line.
        step = 2 * self.reach / (self.num_knots - 1)
        rises = softplus(raw["v"].double()).cumsum(0) * step
        return replace(self, values=pad(rises, (1, 0)) - self.reach)

    @property
    def num_learned_formula(self) -> str:
        return "knots - 1"


ACTIVATIONS: dict[str, Activation] = {
    kind.name: kind()
    for kind in (Softmax, ScaledSoftmax, Sigsoftmax, GSS, ReLU, Sigmoid, SoftCap, PLIF)
}
"""Every activation by name, with its defaults."""


def taken(values: "Tensor", index: "Tensor") -> "Tensor":
    """values[index], which takes a CPU four times as long."""
    return values.index_select(0, index.flatten()).view_as(index)


def _log_sigmoid(z: "Tensor") -> "Tensor":
    from torch.nn.functional import logsigmoid

    return logsigmoid(z)
