"""A softmax with an output matrix of rank r (Godey et al. 2024, arXiv:2404.07647, section 5.1).

z = A (B h), A (V, r) and B (r, D), started at random or from a trained matrix W (V, D) cut to
rank r.  A softmax ignores a constant in its logits, so W - 1 mu^T, mu the mean row, predicts what
W does and the mean row takes none of the ranks.
"""

from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.functional.gram import gram, truncation
from wideneck.heads.head import Head


@final
class LowRankHead(Head):
    """softmax(A B h + b): A is `weight`, B is `down.weight`."""

    def __init__(self, config: c.LowRank, **sizes: Any):
        check_rank(config.rank, sizes["hidden_size"])
        super().__init__(config, c.Softmax(), **sizes)
        self.down = nn.Linear(
            self.hidden_size,
            config.rank,
            bias=False,
            device=sizes.get("device"),
            dtype=sizes.get("dtype"),
        )
        self.reset_parameters()  # A uniform in +-1/sqrt(r), B in +-1/sqrt(D)

    def contexts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.down(hidden), None

    @torch.no_grad()
    def start_from(self, inner: Tensor, outer: Tensor) -> None:
        """Take the factors of `truncation`, balanced.

        Both are trained afterwards, so direction i has entries of one root mean square in A and in
        B: with AdamW, which moves every entry by about the learning rate, one rate fits both.

        Args:
            inner: (D, r) float64.
            outer: (V, r); changed in place.
        """
        scale = balance(inner, outer)
        self.weight.copy_(outer.mul_(scale.to(outer.dtype)))
        self.down.weight.copy_((inner / scale).T)


def balance(inner: Tensor, outer: Tensor) -> Tensor:
    """(r,) float64: times `outer` (V, r), and `inner` (D, r) over it, entries are of one size."""
    scale = (_root_mean_square(inner).double() / _root_mean_square(outer).double()).sqrt()
    # A direction that W or the hidden states lack: A stays 0, and B alive to teach it.
    return torch.where((scale > 0) & scale.isfinite(), scale, 1)


def check_rank(rank: int, hidden_size: int) -> None:
    """Refuse a rank above D."""
    if rank > hidden_size:
        raise WideneckError(
            f"low_rank needs rank <= hidden_size, got rank {rank} for hidden_size {hidden_size}: "
            "lower the rank, or use softmax, which has full rank."
        )


@torch.no_grad()
def low_rank_from(
    weight: Tensor,
    rank: int,
    *,
    second_moment: Tensor | None = None,
    bias: Tensor | None = None,
    logit_scale: float = 1.0,
) -> LowRankHead:
    """The head whose matrix is the nearest of rank r to that of a softmax head.

    Rows are centred first: of all A B of rank r it is the nearest to W - 1 mu^T over tokens, or in
    E ||(W - 1 mu^T - A B) h||^2 where the second moment of the hidden states is given; these are
    "centred" and "whitened" of the audit's `rank_cost`.  At rank D it predicts what W does.

    The factors are balanced, as `LowRankHead.start_from` says.

    Args:
        weight: W (V, D); the head has its dtype and device.
        rank: r.
        second_moment: E[h h^T] (D, D) over text, of 2 D tokens or more; None for the identity.
        bias: (V,); copied.
        logit_scale: constant factor of all scores.

    Cost: a few V D^2 in float64; holds W, A and a chunk of rows.

    Raises:
        WideneckError: a rank that is no whole number from 1 to D, a matrix of another shape.
    """
    config = c.LowRank(rank=rank)
    _check(weight, second_moment, bias)
    head = LowRankHead(
        config,
        hidden_size=weight.shape[1],
        vocab_size=weight.shape[0],
        bias=bias is not None,
        logit_scale=logit_scale,
        device=weight.device,
        dtype=weight.dtype,
    )
    mean, metric = gram(weight)
    if second_moment is not None:
        second_moment = second_moment.to(metric)
    inner, outer = truncation(weight, mean, metric, second_moment, rank=rank)
    head.start_from(inner, outer)
    if head.bias is not None and bias is not None:
        head.bias.copy_(bias)
    return head


def _root_mean_square(columns: Tensor) -> Tensor:
    return columns.norm(dim=0) * len(columns) ** -0.5


def _check(weight: Tensor, second_moment: Tensor | None, bias: Tensor | None) -> None:
    if weight.ndim != 2 or not weight.is_floating_point():
        raise WideneckError(
            "low_rank_from needs the matrix (V, D) of a softmax head in floating point, got "
            f"{weight.dtype} of shape {tuple(weight.shape)}."
        )
    vocab_size, hidden_size = weight.shape
    for name, tensor, shape in (
        ("second_moment", second_moment, (hidden_size, hidden_size)),
        ("bias", bias, (vocab_size,)),
    ):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise WideneckError(
                f"low_rank_from needs a {name} of shape {shape} beside a matrix of shape "
                f"{tuple(weight.shape)}, got {tuple(tensor.shape)}."
            )
