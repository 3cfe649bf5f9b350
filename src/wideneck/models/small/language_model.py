"""A small language model: a backbone and a head, with one embedding for both where they are tied.

Shapes: B sequences, T tokens, D hidden_size, E width of the embedding, V vocab_size.
"""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple, final

from torch import Tensor, nn

from wideneck import config as c
from wideneck import sizes
from wideneck.errors import WideneckError
from wideneck.heads import Head, build
from wideneck.models.asking import evaluating
from wideneck.models.small.awd_lstm import RANGE, AwdLstmBackbone
from wideneck.models.small.backbone import Backbone, Output
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.models.small.transformer import TransformerBackbone


class Step(NamedTuple):
    """What a training step needs of a model."""

    nll: Tensor
    """In nats, reduced as asked."""
    penalty: Tensor | float
    """Scalar; the backbone's, to be added to a mean loss."""
    state: list[Tensor]
    """What the next segment starts from, attached to the graph; [] where nothing is carried."""


@final
class LanguageModel(nn.Module):
    """A backbone and the head that reads it.

    Args:
        backbone: from token ids to hidden states (B, T, D).
        head: from hidden states to log-probabilities (B, T, V).
        tied: makes the backbone's embedding the head's output matrix, the same parameter.
    """

    def __init__(self, backbone: Backbone, head: Head, *, tied: bool):
        super().__init__()
        self.backbone, self.head, self.tied = backbone, head, tied
        if tied:
            head.weight = backbone.embedding.get_parameter("weight")

    def forward(
        self,
        ids: Tensor,
        targets: Tensor,
        state: list[Tensor] | None = None,
        *,
        reduction: str = "mean",
    ) -> Step:
        """Loss of one segment; never holds the scores of all tokens.

        Args:
            ids: (B, T) int64.
            targets: (B, T) int64, the tokens that follow.
            state: that of the segment before; None or [] at the start of a text.
            reduction: of the nll: "mean", "sum" or "none".
        """
        output = self.backbone(ids, state)
        nll = self.head.nll(output.hidden, targets, reduction=reduction)
        return Step(nll, self.backbone.penalty(output), output.state)

    def log_probs(self, ids: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, Output]:
        """Log-probabilities in nats (B, T, V) of the tokens that follow each of `ids` (B, T)."""
        output = self.backbone(ids, state)
        return self.head.log_probs(output.hidden), output

    def without_dropout(self) -> AbstractContextManager[None]:
        """Inside, no dropout of backbone or head acts, and gradients are as ever.

        It is eval mode, in which these backbones, unlike nn.LSTM, have gradients on CUDA too.  The
        modes come back after; a call of `train()` inside turns dropout on again.
        """
        return evaluating(self)

    @property
    def num_parameters(self) -> int:
        """How many numbers the model learns, a tied matrix counted once."""
        return sum(parameter.numel() for parameter in self.parameters())


def language_model(
    model: AwdLstm | Transformer, head: c.HeadConfig, *, vocab_size: int
) -> LanguageModel:
    """A model with fresh weights from torch's generator.

    An AWD-LSTM's output matrix starts as its embedding does, tied or not, as in the paper; that
    of a low_rank, and an untied one over a transformer, start as the head has them.

    Args:
        model: the backbone's config.
        head: the head's; a mixture that is tied gets contexts as wide as the embedding.
        vocab_size: V.

    Raises:
        WideneckError: sizes with which the head cannot be tied, or options of which no model can
            be built.
    """
    if isinstance(model, AwdLstm):
        backbone: Backbone = AwdLstmBackbone(model, vocab_size=vocab_size)
    else:
        backbone = TransformerBackbone(model, vocab_size=vocab_size)
    if model.tied:
        head = _tied_head(head, backbone.hidden_size, backbone.embedding.embedding_dim)
    built = build(head, hidden_size=backbone.hidden_size, vocab_size=vocab_size, bias=model.bias)
    if isinstance(model, AwdLstm) and not model.tied and not isinstance(head, c.LowRank):
        nn.init.uniform_(built.weight, -RANGE, RANGE)
    return LanguageModel(backbone, built, tied=model.tied)


def _tied_head(head: c.HeadConfig, hidden_size: int, embedding_size: int) -> c.HeadConfig:
    """The head with an output matrix of the shape of the embedding."""
    if isinstance(head, c.LowRank):
        raise WideneckError(
            "A low_rank has two matrices, neither of them an embedding; set tied = false."
        )
    if sizes.embedding_size(head, hidden_size) == embedding_size:
        return head
    mixture = isinstance(head, c.Mixture | c.MoC)
    if mixture and head.projection == "tanh" and head.embedding_size is None:
        return replace(head, embedding_size=embedding_size)
    raise WideneckError(
        f"An embedding of width {embedding_size} cannot be the output matrix of a "
        f"{c.name_of(head)} of width {sizes.embedding_size(head, hidden_size)}; make them equal, "
        "or set tied = false."
    )
