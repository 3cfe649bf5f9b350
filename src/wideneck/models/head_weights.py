"""What an audit of an output layer needs to know of it: its tensors, and what it makes of them.

A matrix in a file looks the same under a plain layer's softmax and under a head of wideneck, so the
reader asks what the folder says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
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
from wideneck.models.checks import dtype_name, sha256_of

SOFTMAX = Softmax()


@dataclass(frozen=True, kw_only=True)
class HeadForm:
    """What makes probabilities of a matrix: a plain layer's softmax, unless told otherwise."""

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


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """The output layer of one checkpoint, read without the rest of the model.

    V rows (one per token), D columns. `weight` keeps the storage dtype of floats; a quantized
    matrix is decoded to float32.
    """

    weight: Tensor
    """(V, D), on the CPU until it is moved."""
    bias: Tensor | None
    """(V,) or None."""
    name: str
    """The tensor's name in the checkpoint, e.g. "lm_head.weight"."""
    dtype: str
    """The storage type, e.g. "bfloat16", "Q8_0", "NVFP4"."""
    rounding: float
    """Relative spacing of the storage type: `torch.finfo(dtype).eps`, also of FP8, and
    2**(3 - bits) for a quantized block (bits per weight, relative to the block's rms)."""
    tied: bool
    """True where input embedding and output layer are the same numbers."""
    tying: str
    """One sentence: how that was decided, and whether the config says otherwise."""
    sha256: str
    """Sum of the tensor's stored bytes, so that equal tensors across checkpoints are found; of a
    quantized matrix, those of all its parts."""
    tokens: list[str | None] | None
    """The tokenizer's strings by id, None for an id without a token; None without a tokenizer."""
    model: str
    """What the user named, for display."""
    form: HeadForm = PLAIN
    """What makes probabilities of the matrix's scores."""
    tokenizer: Callable[[], Any] | None = None
    """Gives the tokenizer, which takes seconds where it has to be made of a GGUF file; None where
    none came with the head."""
    token_types: Sequence[int] | None = None
    """By id the type that a GGUF file gives a token."""
    input_weight: Callable[[], Tensor] | None = None
    """Gives the input embedding, (V', D'), where it is a matrix of its own; None where it is not,
    or where it would have to be downloaded."""

    def to(self, device: torch.device) -> "HeadWeights":
        """The same on a device."""
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, weight=self.weight.to(device), bias=bias)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, **rest: Any) -> "HeadWeights":
        """Describe a matrix stored in its own dtype; `rest` are the fields that do not follow."""
        return cls(
            weight=weight,
            bias=bias,
            dtype=dtype_name(weight.dtype),
            rounding=torch.finfo(weight.dtype).eps,
            sha256=sha256_of(weight),
            **rest,
        )


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
