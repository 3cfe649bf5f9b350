"""Every head and activation as a frozen dataclass.  Imports no torch.

`HEADS` is the one list of what exists: the command line, the TOML of recipes, the saved
config of a model, the test matrix and the table in the docs are all read off it.

An activation is a pointwise map f with p_i = exp(f(z_i)) / sum_j exp(f(z_j)), and by itself
it is the config of a head with one output matrix.  d is the hidden size, V the vocabulary, E the
width of the contexts of a mixture.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, get_args

from wideneck.errors import WideneckError
from wideneck.registry import (
    NOT_A_TENSOR,
    as_number,
    check_count,
    check_flag,
    check_number,
    configure,
    name_in,
)

if TYPE_CHECKING:
    from torch import Tensor

Number: TypeAlias = "float | Tensor"

KANAI = "Kanai et al. 2018, arXiv:1805.10829"
YANG = "Yang et al. 2018, arXiv:1711.03953"
GODEY = "Godey et al. 2024, arXiv:2404.07647"
PARTHIBAN = "Parthiban, Mao & Inkpen, AAAI 2021"
GANEA = "Ganea et al. 2019, arXiv:1902.08077"

THREE_PRODUCTS = "three matrix products"


def name_of(config: "HeadConfig") -> str:
    """The name in `HEADS` of a config's kind; any mixture but that of sigsoftmax is a mos."""
    if isinstance(config, Mixture):
        return "moss" if isinstance(config.activation, Sigsoftmax) else "mos"
    return name_in(HEADS, config)


def _check_mixture(config: "MoC | Mixture") -> None:
    check_count(name_of, config, "num_components", 1)
    if config.context_size is not None:
        check_count(name_of, config, "context_size", 1)
    if config.projection not in ("tanh", "residual"):
        raise WideneckError(
            f"A mixture's projection is 'tanh' or 'residual', got {config.projection!r}."
        )
    if config.context_size is not None and config.projection != "tanh":
        raise WideneckError(
            f"{name_of(config)} takes a context_size with projection 'tanh' alone: a residual "
            f"context h + U_k h is as wide as h, so leave out {config.context_size}."
        )
    check_number(name_of, config, "dropout")
    if not 0 <= config.dropout < 1:
        raise WideneckError(f"A mixture needs 0 <= dropout < 1, got {config.dropout}.")


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """The plain softmax: the baseline."""

    formula: ClassVar[str] = "f(z) = z"
    paper: ClassVar[str] = "-"
    cost: ClassVar[str] = THREE_PRODUCTS
    linear: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ScaledSoftmax:
    """A softmax of fixed or learned scale: the control for everything that changes the slope."""

    scale: Number = 1.0
    """Factor a of the logits, the inverse of a temperature."""
    learned: bool = True

    formula: ClassVar[str] = "f(z) = a z"
    paper: ClassVar[str] = "control of ours"
    cost: ClassVar[str] = THREE_PRODUCTS
    linear: ClassVar[bool] = True

    def __post_init__(self):
        check_number(name_of, self, "scale", positive=True, tensor=True)
        check_flag(name_of, self, "learned")


@dataclass(frozen=True, kw_only=True)
class Sigsoftmax:
    """Softmax times sigmoid; not shift-invariant, which is where its extra rank comes from."""

    shift: Number = 0.0
    """Added to every logit; far above 0 the sigsoftmax is a softmax, far below one of scale 2."""
    learned: bool = False
    """Whether the shift is learned."""

    formula: ClassVar[str] = "f(z) = z + log sigmoid(z)"
    paper: ClassVar[str] = KANAI
    cost: ClassVar[str] = "softmax + one light pass over the scores"
    linear: ClassVar[bool] = False

    def __post_init__(self):
        check_number(name_of, self, "shift", tensor=True)
        check_flag(name_of, self, "learned")


@dataclass(frozen=True, kw_only=True)
class GSS:
    """Generalized sigsoftmax: slope k far below the bend c, slope 1 far above it."""

    bend: Number = 0.0
    """c, the logit at which the slope passes (1 + k) / 2."""
    slope: Number = 2.0
    """k > 0; 1 is the softmax, and (c, k) = (0, 2) the sigsoftmax."""
    learned: bool = False
    """Whether bend and slope are learned."""

    formula: ClassVar[str] = "f(z) = w + (k-1) log sigmoid(w), w = z-c"
    paper: ClassVar[str] = PARTHIBAN
    cost: ClassVar[str] = "softmax + two passes (three if learned)"
    linear: ClassVar[bool] = False

    def __post_init__(self):
        check_number(name_of, self, "bend", tensor=True)
        check_number(name_of, self, "slope", positive=True, tensor=True)
        check_flag(name_of, self, "learned")


@dataclass(frozen=True, kw_only=True)
class ReLU:
    """The foil of the sigsoftmax paper: high rank, but gradients that explode or die."""

    epsilon: float = 1e-8
    """Keeps the logarithm finite; ours, the paper's value could not be checked."""

    formula: ClassVar[str] = "f(z) = log(max(z, 0) + epsilon)"
    paper: ClassVar[str] = KANAI
    cost: ClassVar[str] = "softmax + one pass over the scores"
    linear: ClassVar[bool] = False

    def __post_init__(self):
        check_number(name_of, self, "epsilon", positive=True)


@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """The other foil: gradients vanish for large logits."""

    shift: Number = 0.0
    """Added to every logit; far below 0 the normalized sigmoid is a softmax."""
    learned: bool = False
    """Whether the shift is learned."""

    formula: ClassVar[str] = "f(z) = log sigmoid(z)"
    paper: ClassVar[str] = KANAI
    cost: ClassVar[str] = "softmax + one pass over the scores"
    linear: ClassVar[bool] = False

    def __post_init__(self):
        check_number(name_of, self, "shift", tensor=True)
        check_flag(name_of, self, "learned")


@dataclass(frozen=True, kw_only=True)
class SoftCap:
    """A softmax of logits held between -cap and cap, as Gemma 2 has it."""

    cap: float = 30.0

    formula: ClassVar[str] = "f(z) = cap tanh(z / cap)"
    paper: ClassVar[str] = "Gemma 2, arXiv:2408.00118"
    cost: ClassVar[str] = "softmax + one pass over the scores"
    linear: ClassVar[bool] = False

    def __post_init__(self):
        check_number(name_of, self, "cap", positive=True)


@dataclass(frozen=True, kw_only=True)
class PLIF:
    """A learned increasing, piecewise linear map of the logits, shared by all tokens."""

    num_knots: int = 100_000
    """Evenly spaced; the paper uses 100,000."""
    reach: float = 20.0
    """The knots lie between -reach and reach; outside, the last slopes go on."""
    values: "Tensor | None" = None
    """f at the knots, shape (num_knots,), best in float64; None for f(z) = z, the softmax."""

    formula: ClassVar[str] = "f piecewise linear, slopes > 0 learned"
    paper: ClassVar[str] = GANEA
    cost: ClassVar[str] = "softmax + several passes over the scores"
    linear: ClassVar[bool] = False

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


Activation = Softmax | ScaledSoftmax | Sigsoftmax | GSS | ReLU | Sigmoid | SoftCap | PLIF


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """A softmax whose matrix is a product: the rank-constrained head of section 5.1."""

    rank: int = 64
    """r, at most d; `heads.low_rank_from` cuts a trained matrix down to it."""

    formula: ClassVar[str] = "softmax(A B h), A is V x r, B is r x d"
    paper: ClassVar[str] = GODEY
    cost: ClassVar[str] = "r / d of a softmax + one product d x r"
    linear: ClassVar[bool] = True

    def __post_init__(self):
        check_count(name_of, self, "rank", 1)


@dataclass(frozen=True, kw_only=True)
class MoC:
    """Mixture of contexts: K projections mixed before one softmax; the foil of the mixtures."""

    num_components: int = 4
    """K."""
    projection: str = "tanh"
    """"tanh" as in the paper, or "residual", h + U_k h with U = 0 at the start."""
    dropout: float = 0.0
    """Locked: one mask for all positions of a sequence."""
    context_size: int | None = None
    """E, the width of every h_k and of the output matrix (V, E); None for d.  With "tanh" only."""

    formula: ClassVar[str] = "softmax(W sum_k pi_k h_k)"
    paper: ClassVar[str] = YANG
    cost: ClassVar[str] = "softmax + K products d x d"
    linear: ClassVar[bool] = True

    def __post_init__(self):
        _check_mixture(self)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """K distributions over one output matrix, each of its own projection of the hidden state."""

    activation: Activation = Softmax()
    num_components: int = 4
    """K; the papers use 15 on PTB and WikiText-2."""
    projection: str = "tanh"
    """"tanh" as in the paper, or "residual", h + U_k h with U = 0 at the start."""
    dropout: float = 0.0
    """Locked: one mask for all positions of a sequence.  The papers use 0.29."""
    context_size: int | None = None
    """E, the width of every h_k and of the output matrix (V, E); None for d.  With "tanh" only."""

    paper: ClassVar[str] = YANG
    cost: ClassVar[str] = "K x its activation + K products d x d"
    linear: ClassVar[bool] = False

    @property
    def formula(self) -> str:
        return f"sum_k pi_k {name_of(self.activation)}(W h_k)"

    def __post_init__(self):
        if not isinstance(self.activation, get_args(Activation)):
            raise WideneckError(
                f"The activation of a mixture is one of {', '.join(ACTIVATIONS)}, "
                f"got {self.activation!r}."
            )
        _check_mixture(self)


HeadConfig = Activation | LowRank | MoC | Mixture

ACTIVATIONS: dict[str, Activation] = {
    "softmax": Softmax(),
    "scaled_softmax": ScaledSoftmax(),
    "sigsoftmax": Sigsoftmax(),
    "gss": GSS(),
    "relu": ReLU(),
    "sigmoid": Sigmoid(),
    "softcap": SoftCap(),
    "plif": PLIF(),
}
"""Every activation by name, with its defaults."""

HEADS: dict[str, HeadConfig] = {
    **ACTIVATIONS,
    "low_rank": LowRank(),
    "moc": MoC(),
    "mos": Mixture(),
    "moss": Mixture(activation=Sigsoftmax()),
}
"""Every head by name, with its defaults."""


def activation_config(activation: "str | dict | Activation", **options) -> Activation:
    """An activation by name, from its dictionary, or as it is; options replace its fields."""
    return configure(activation, options, ACTIVATIONS, "activation", name_of=name_of)


def head_config(head: "str | dict | HeadConfig", **options) -> HeadConfig:
    """A head's config by name, from its dictionary, or as it is; options replace its fields.

    Raises:
        WideneckError: an unknown name or option (with the nearest known one), a value out of range.
    """
    return configure(head, options, HEADS, "head", name_of=name_of, convert=_with_activation)


def _with_activation(options: dict) -> dict:
    if "activation" not in options:
        return options
    return {**options, "activation": activation_config(options["activation"])}


def to_dict(config: HeadConfig) -> dict[str, Any]:
    """The config as TOML and JSON hold it: its name and every field; `head_config` reads it.

    Numbers given as tensors become numbers.

    Raises:
        WideneckError: the values of a PLIF, or a tensor of several numbers, which no file holds.
    """
    result: dict[str, Any] = {"name": name_of(config)}
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, get_args(Activation)):
            value = to_dict(value)
        elif field.name == "values" and value is not None:
            raise WideneckError(
                "The values of a plif are for wn.functional and wn.linear_cross_entropy; "
                "a head learns its own and starts as the softmax."
            )
        else:
            value = as_number(name_of, config, field.name)
        if value is not None:
            result[field.name] = value
    return result
