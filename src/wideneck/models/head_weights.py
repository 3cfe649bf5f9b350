"""What an audit of an output layer needs to know of it: the tensors and where they came from."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.models.checks import dtype_name, sha256_of
from wideneck.models.head_form import PLAIN, HeadForm


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """The output layer of one checkpoint, read without the rest of the model.

    V rows (one a token), D columns. `weight` keeps the storage dtype where torch has it;
    quantized GGUF blocks are dequantized to float32.
    """

    weight: Tensor
    """(V, D), on the CPU."""
    bias: Tensor | None
    """(V,) or None."""
    name: str
    """The tensor's name in the checkpoint, e.g. "lm_head.weight"."""
    dtype: str
    """The storage type, e.g. "bfloat16", "Q8_0"."""
    rounding: float
    """Relative spacing of the storage type: `torch.finfo(dtype).eps`, 2**(3 - bits) for a
    quantized block (bits a weight, relative to the block's rms)."""
    tied: bool
    """True where input embedding and output layer are the same numbers."""
    tying: str
    """One sentence: how that was decided, and whether the config says otherwise."""
    sha256: str
    """Sum of the tensor's stored bytes, so that equal tensors across checkpoints are found."""
    tokens: list[str | None] | None
    """The tokenizer's strings by id, None for an id without a token; None without a tokenizer."""
    model: str
    """What the user named, for display."""
    form: HeadForm = PLAIN
    """What makes probabilities of the matrix's scores."""

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, **rest: Any) -> "HeadWeights":
        """Of a matrix that is stored in its own dtype; `rest` are the fields that do not follow."""
        return cls(
            weight=weight,
            bias=bias,
            dtype=dtype_name(weight.dtype),
            rounding=torch.finfo(weight.dtype).eps,
            sha256=sha256_of(weight),
            **rest,
        )
