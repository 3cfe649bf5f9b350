"""AWD-LSTM: LSTMs with dropout on words, on everything between the layers, and on weights.

Merity, Keskar & Socher 2018, arXiv:1708.02182; sizes, order of the dropouts and initialization are
those of salesforce/awd-lstm-lm.  All masks are scaled by 1 / (1 - rate):

- embedding dropout: one number per word of the vocabulary, the same wherever the word occurs;
- locked dropout (Gal & Ghahramani 2016): one mask per sequence, the same for all its tokens;
- weight dropout: one mask per segment on the recurrent weights, DropConnect.

Shapes: B sequences, T tokens, V vocabulary, E embedding_size, H the width of a layer.
"""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wideneck.models.small.backbone import Backbone, Output
from wideneck.models.small.config import AwdLstm

RANGE = 0.1
"""Embeddings and output matrices start uniform in +-RANGE."""


@final
class LstmLayer(nn.Module):
    """One LSTM; its recurrent weights can be dropped, its parameters are the whole ones.

    `torch.lstm` is called with the weights of the moment.  `functional_call` on an nn.LSTM would
    do the same on a CPU, but on CUDA it moves all four parameters to new memory at every call.

    Parameters, the gates in the order i, f, g, o: weight_ih (4H, input_size), weight_hh (4H, H),
    bias_ih (4H), bias_hh (4H).
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `nn.LSTM`: uniform in +-1/sqrt(H)."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.hidden_size**-0.5), self.hidden_size**-0.5)

    def forward(
        self, input: Tensor, state: tuple[Tensor, Tensor] | None = None, weight_dropout: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read a segment.

        Args:
            input: (B, T, input_size).
            state: h and c, (1, B, H) each; None for zeros.
            weight_dropout: the share of recurrent weights to drop.

        Returns:
            The outputs (B, T, H), and the last h and c.
        """
        if state is None:
            zeros = input.new_zeros(1, len(input), self.hidden_size)
            state = (zeros, zeros)
        weight_hh = self.weight_hh
        if weight_dropout:
            # F.dropout's numbers; on a CPU it would keep its mask as floats for the backward pass.
            weight_hh, _ = torch.native_dropout(weight_hh, weight_dropout, train=True)
        weights = [self.weight_ih, weight_hh, self.bias_ih, self.bias_hh]
        if input.is_cuda:
            weights = in_one_piece(weights)
        # "train" decides only whether cuDNN keeps what a backward pass needs: with it, gradients
        # are there in eval mode too, which nn.LSTM refuses on CUDA.
        return torch.lstm(
            input,
            state,
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=torch.is_grad_enabled(),
            bidirectional=False,
            batch_first=True,
        )

    def extra_repr(self) -> str:
        """Shapes."""
        return f"{self.weight_ih.shape[1]}, {self.hidden_size}"


def in_one_piece(weights: list[Tensor]) -> list[Tensor]:
    """The same numbers one after the other in memory, as cuDNN wants an LSTM's weights.

    Of weights that are not, it makes such a copy itself, with a warning.
    """
    buffer = torch.cat([weight.flatten() for weight in weights])
    pieces = buffer.split([weight.numel() for weight in weights])
    return [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]


@final
class AwdLstmBackbone(Backbone):
    """Embedding and LSTMs; the state is [h_0, c_0, h_1, c_1, ...], each (1, B, H)."""

    def __init__(self, config: AwdLstm, *, vocab_size: int):
        super().__init__()
        self.config, self.context = config, None
        E, L = config.embedding_size, config.num_layers
        self.hidden_size = config.last_size or E
        self.words = nn.Embedding(vocab_size, E)
        nn.init.uniform_(self.words.weight, -RANGE, RANGE)
        widths = [E, *[config.hidden_size] * (L - 1), self.hidden_size]
        self.layers = nn.ModuleList(LstmLayer(widths[i], widths[i + 1]) for i in range(L))

    @property
    def embedding(self) -> nn.Embedding:
        return self.words

    def forward(self, ids: Tensor, state: list[Tensor] | None = None) -> Output:
        config = self.config
        hidden = self._locked_dropout(self._embedded(ids), config.input_dropout)
        before = (
            list(zip(state[::2], state[1::2], strict=True)) if state else [None] * len(self.layers)
        )
        after: list[Tensor] = []
        raw = hidden
        for i, (layer, start) in enumerate(zip(self.layers, before, strict=True)):
            if i > 0:
                hidden = self._locked_dropout(raw, config.hidden_dropout)
            raw, h, c = layer(hidden, start, config.weight_dropout if self.training else 0.0)
            after += [h, c]
        return Output(self._locked_dropout(raw, config.output_dropout), raw, after)

    def penalty(self, output: Output) -> Tensor:
        """AR + TAR: alpha mean(hidden^2) + beta mean((raw_t+1 - raw_t)^2).

        The means are over all numbers of `output.hidden`, the last layer's output after its
        dropout, and of the T - 1 differences of `output.raw`, the same before it; in at least
        float32.
        """
        dtype = torch.promote_types(output.raw.dtype, torch.float32)
        change = output.raw[:, 1:].to(dtype) - output.raw[:, :-1].to(dtype)
        activation = output.hidden.to(dtype).square().mean()
        temporal = change.square().sum() / max(change.numel(), 1)  # a single token has no change
        alpha, beta = self.config.activation_regularization, self.config.temporal_regularization
        return alpha * activation + beta * temporal

    def _embedded(self, ids: Tensor) -> Tensor:
        embedded, rate = self.words(ids), self.config.embedding_dropout
        if not self.training or rate == 0:
            return embedded
        keep = F.dropout(embedded.new_ones(self.words.num_embeddings), rate)
        return embedded * keep[ids].unsqueeze(-1)

    def _locked_dropout(self, hidden: Tensor, rate: float) -> Tensor:
        """One mask for all tokens of a sequence: hidden (B, T, H)."""
        if not self.training or rate == 0:
            return hidden
        return hidden * F.dropout(hidden.new_ones(len(hidden), 1, hidden.shape[-1]), rate)
