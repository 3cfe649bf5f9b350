"""What makes probabilities of an output matrix: a plain layer's softmax, or a head of wideneck.

A matrix in a file looks the same under each of them, so the reader asks what the folder says.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from wideneck.config import (
    HeadConfig,
    LowRank,
    Mixture,
    MoC,
    ScaledSoftmax,
    SoftCap,
    Softmax,
    name_of,
)
from wideneck.errors import WideneckError
from wideneck.heads.head import Head

SOFTMAX = Softmax()


@dataclass(frozen=True, kw_only=True)
class HeadForm:
    """A plain output layer, unless told otherwise."""

    config: HeadConfig = SOFTMAX
    is_ours: bool = False
    """Whether it is a head of wideneck, whose output are log-probabilities."""
    has_memory: bool = False
    """Whether the model predicts from a cache memory besides."""

    @property
    def name(self) -> str:
        """As in `wideneck heads`."""
        return name_of(self.config)

    @property
    def has_contexts(self) -> bool:
        """Whether other vectors than the hidden state itself meet the matrix."""
        return isinstance(self.config, LowRank | MoC | Mixture)

    @property
    def is_one_softmax(self) -> bool:
        """Whether it is one softmax of the matrix's scores of the hidden state, under a map."""
        return isinstance(self.config, Softmax | ScaledSoftmax | SoftCap) and not self.has_memory


PLAIN = HeadForm()


def output_layer(model: Any) -> Any:
    """The module that makes the logits; a model that names none is refused."""
    layer = _named(model)
    if not isinstance(getattr(layer, "weight", None), Tensor):
        raise WideneckError(
            f"{type(model).__name__} names no output embedding with a weight: expected a causal "
            "language model of transformers, such as AutoModelForCausalLM gives."
        )
    return layer


def head_in(model: Any) -> Head | None:
    """The head of wideneck in a model in memory or on the meta device; None for a plain layer.

    Raises:
        WideneckError: it stands in a wrapper, such as PEFT's, which may change what it does.
    """
    layer = _named(model)
    if layer is None or isinstance(layer, Head):
        return layer
    if any(isinstance(part, Head) for part in layer.modules()):
        raise WideneckError(
            f"The head of this {type(model).__name__} stands in a {type(layer).__name__}, which "
            "may change what it does: merge or unload the adapter, then audit the model."
        )
    return None


def form_of(model: Any) -> HeadForm:
    """The form of a model's output layer; raises as `head_in`."""
    head = head_in(model)
    if head is None:
        return PLAIN
    remembers = bool(getattr(head, "remembers", False))
    return HeadForm(config=head.config, is_ours=True, has_memory=remembers)


def _named(model: Any) -> Any:
    getter = getattr(model, "get_output_embeddings", None)
    return None if getter is None else getter()
