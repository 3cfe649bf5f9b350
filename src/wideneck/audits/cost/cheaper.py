"""A cheaper head beside a head: its logits, and the rows of its matrix if it has one.

Shapes: N tokens, V vocabulary, D hidden size, R rank.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.output.layer import OutputLayer

Logits = Callable[[Tensor, Tensor], Tensor]
"""Called as logits(states (N, D), logits of the head (N, V)); gives (N, V), a tensor of its own."""
Rows = Callable[[slice], Tensor]
"""Some rows of the matrix, float32."""


@dataclass(frozen=True)
class Cheaper:
    """A cheaper head in memory."""

    logits: Logits
    rows: Rows | None
    """None where no matrix changes."""


def dense(layer: OutputLayer, weight: Tensor) -> Cheaper:
    """Another matrix (V, D) in the place of the head's."""
    other = OutputLayer(weight, layer.bias, layer.logit_map)
    return Cheaper(lambda x, _: other.logits(x), lambda rows: weight[rows])


def low_rank(layer: OutputLayer, up: Tensor, down: Tensor, mean: Tensor) -> Cheaper:
    """Z = A (B x) + mu.x + b of A (V, R), B (R, D), and the mean row mu (D,) that was taken off."""

    def logits(x: Tensor, _: Tensor) -> Tensor:
        raw = torch.addmm((x @ mean)[:, None], x @ down.T, up.T)
        return layer.logit_map(raw if layer.bias is None else raw.add_(layer.bias))

    return Cheaper(logits, lambda rows: torch.addmm(mean, up[rows], down))


def rounded_logits() -> Cheaper:
    """The head's own logits, rounded to bfloat16."""
    return Cheaper(lambda _, z: z.bfloat16().float(), None)


def rounded_operands(layer: OutputLayer) -> Cheaper:
    """States and matrix rounded to bfloat16, logits in float32."""
    other = dense(layer, layer.weight.bfloat16().float())
    return Cheaper(lambda x, z: other.logits(x.bfloat16().float(), z), None)
