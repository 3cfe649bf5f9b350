"""The output layer as a function of hidden states: scores, and the passes that measure them.

z = map(W x + b), where map is what the model does to its logits afterwards (`LogitMap`).
Symbols: N tokens, V vocabulary, D hidden size.  Nothing here holds N x V.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.measured import UnmeasurableError
from wideneck.config import LowRank
from wideneck.errors import WideneckError
from wideneck.models import HeadWeights, LogitMap

TOKENS = 128
"""Tokens a chunk: 128 x 49,152 scores are 25 MB; more only moves more memory."""


@dataclass(frozen=True)
class OutputLayer:
    """The head in float32.  Read only: these may be the tensors of a model in memory."""

    weight: Tensor
    """(V, D)."""
    bias: Tensor | None
    """(V,)."""
    logit_map: LogitMap
    normalized: bool = False
    """Whether the model gives log-probabilities for its logits, as with a head of wideneck."""

    @classmethod
    def of(cls, head: HeadWeights, logit_map: LogitMap) -> "OutputLayer":
        """Upcast once; all passes share it.

        Raises:
            UnmeasurableError: the head is more than one softmax of the scores of a matrix.
        """
        if isinstance(head.form.config, LowRank) and not head.form.has_memory:
            raise UnmeasurableError(
                f"{head.model} has a low_rank head, the product of two matrices: measure the plain "
                "model that wideneck.merged makes of it."
            )
        if not head.form.is_one_softmax:
            what = "memory" if head.form.has_memory else f"{head.form.name} head"
            raise UnmeasurableError(
                f"{head.model} has a {what}, which is more than one softmax of the scores of a "
                "matrix."
            )
        bias = None if head.bias is None else head.bias.float()
        return cls(head.weight.float(), bias, logit_map, normalized=head.form.is_ours)

    def raw(self, hidden: Tensor) -> Tensor:
        """Scores before the map: (N, D) -> (N, V)."""
        if self.bias is None:
            return hidden @ self.weight.T
        return torch.addmm(self.bias, hidden, self.weight.T)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores that the softmax sees: (N, D) -> (N, V)."""
        return self.logit_map(self.raw(hidden))

    def check(self, hidden: Tensor, logits: Tensor, model: str) -> None:
        """Refuse a head that does not explain the model's own logits.

        Raises:
            UnmeasurableError: the logits, or the scores in float32, are not finite.
            WideneckError: they differ.
        """
        if not bool(logits.isfinite().all()):
            raise UnmeasurableError(f"{model} gives logits that are not finite on this text.")
        own = self.logits(hidden)
        own = own.log_softmax(-1) if self.normalized else own
        off = (own - logits).abs().max().item()
        # Rounding of the model's own product: 1e-3 is generous for float32, not for bfloat16.
        rounding = max(1e-3, 4 * torch.finfo(logits.dtype).eps)
        if not math.isfinite(off):
            raise UnmeasurableError(f"The scores of the head of {model} are beyond float32.")
        if off > rounding * max(1.0, logits.abs().max().item()):
            raise WideneckError(
                f"The head read from {model} does not give the model's own logits (off by "
                f"{off:.3g}): something between them is not understood, so the audit stops here."
            )


def token_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching chunks of `TOKENS` rows of each tensor."""
    yield from zip(*(tensor.split(TOKENS) for tensor in tensors), strict=True)
