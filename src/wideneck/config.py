"""Every head as a frozen dataclass.  Imports no torch.

`HEADS` is the one list of what exists: the command line, the TOML of recipes, the saved
config of a model, the test matrix and the table in the docs are all read off it.

An activation is by itself the config of a head with one output matrix.  d is the hidden size, V the
vocabulary, E the width of the contexts of a mixture.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from wideneck.activation import Activation as Activation
from wideneck.activation import Number as Number
from wideneck.activations import ACTIVATIONS as ACTIVATIONS
from wideneck.activations import GSS as GSS
from wideneck.activations import PLIF as PLIF
from wideneck.activations import ReLU as ReLU
from wideneck.activations import ScaledSoftmax as ScaledSoftmax
from wideneck.activations import Sigmoid as Sigmoid
from wideneck.activations import Sigsoftmax as Sigsoftmax
from wideneck.activations import SoftCap as SoftCap
from wideneck.activations import Softmax as Softmax
from wideneck.errors import WideneckError
from wideneck.files.folder import renamed
from wideneck.registry import as_number, check_count, check_number, configure
from wideneck.registry import name_of as name_of

YANG = "Yang et al. 2018, arXiv:1711.03953"


def _check_mixture(config: "MoC | Mixture") -> None:
    check_count(name_of, config, "num_components", 1)
    if config.embedding_size is not None:
        check_count(name_of, config, "embedding_size", 1)
    if config.projection not in ("tanh", "residual"):
        raise WideneckError(
            f"A mixture's projection is 'tanh' or 'residual', got {config.projection!r}."
        )
    if config.embedding_size is not None and config.projection != "tanh":
        raise WideneckError(
            f"{name_of(config)} takes an embedding_size with projection 'tanh' alone: a residual "
            f"context h + U_k h is as wide as h, so leave out {config.embedding_size}."
        )
    check_number(name_of, config, "dropout")
    if not 0 <= config.dropout < 1:
        raise WideneckError(f"A mixture needs 0 <= dropout < 1, got {config.dropout}.")


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """A softmax whose matrix is a product: the rank-constrained head of section 5.1."""

    rank: int = 64
    """r, at most d; `heads.low_rank_from` cuts a trained matrix down to it."""

    name: ClassVar[str] = "low_rank"
    formula: ClassVar[str] = "softmax(A B h), A is V x r, B is r x d"
    paper: ClassVar[str] = "Godey et al. 2024, arXiv:2404.07647"
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
    embedding_size: int | None = None
    """E, the width of every h_k and of the output matrix (V, E); None for d.  With "tanh" only."""

    name: ClassVar[str] = "moc"
    formula: ClassVar[str] = "softmax(W sum_k pi_k h_k)"
    paper: ClassVar[str] = YANG
    cost: ClassVar[str] = "softmax + K products d x d"
    linear: ClassVar[bool] = True

    def __post_init__(self):
        _check_mixture(self)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """K distributions over one output matrix, each of its own projection of the hidden state."""

    activation: Activation = ACTIVATIONS["softmax"]
    num_components: int = 4
    """K; the papers use 15 on PTB and WikiText-2."""
    projection: str = "tanh"
    """"tanh" as in the paper, or "residual", h + U_k h with U = 0 at the start."""
    dropout: float = 0.0
    """Locked: one mask for all positions of a sequence.  The papers use 0.29."""
    embedding_size: int | None = None
    """E, the width of every h_k and of the output matrix (V, E); None for d.  With "tanh" only."""

    paper: ClassVar[str] = YANG
    cost: ClassVar[str] = "K x its activation + K products d x d"

    @property
    def name(self) -> str:
        """Any mixture but that of sigsoftmax is a mos."""
        return "moss" if isinstance(self.activation, Sigsoftmax) else "mos"

    @property
    def formula(self) -> str:
        return f"sum_k pi_k {self.activation.name}(W h_k)"

    @property
    def linear(self) -> bool:
        """A single component is as its activation is; several are bent by their sum."""
        return self.num_components == 1 and self.activation.linear

    def __post_init__(self):
        if not isinstance(self.activation, Activation):
            raise WideneckError(
                f"The activation of a mixture is one of {', '.join(ACTIVATIONS)}, "
                f"got {self.activation!r}."
            )
        _check_mixture(self)


HeadConfig = Activation | LowRank | MoC | Mixture

HEADS: dict[str, HeadConfig] = {
    **ACTIVATIONS,
    **{head.name: head for head in (LowRank(), MoC(), Mixture(), Mixture(activation=Sigsoftmax()))},
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
    return configure(
        renamed(head), options, HEADS, "head", name_of=name_of, convert=_with_activation
    )


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
        if isinstance(value, Activation):
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
