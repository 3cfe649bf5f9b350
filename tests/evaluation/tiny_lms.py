"""Language models so small that a test can write them out, and a text for them."""

from typing import final

import torch
from torch import nn

from wideneck import config as c
from wideneck import heads
from wideneck.models.small import Backbone, LanguageModel, Output

D, V = 5, 11


@final
class Recurrence(Backbone):
    """h_t = tanh(E[x_t] + U h_{t-1}); in training its output has dropout."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.hidden_size, self.context = D, None
        self.words = nn.Embedding(V, D)
        self.U = nn.Parameter(torch.randn(D, D) / 2)
        self.dropout = nn.Dropout(rate)

    @property
    def embedding(self):
        return self.words

    def forward(self, ids, state=None):
        h = state[0][0] if state else self.U.new_zeros(len(ids), D)
        rows = []
        for x in self.words(ids).unbind(1):
            h = torch.tanh(x + h @ self.U.T)
            rows.append(h)
        raw = torch.stack(rows, 1)
        return Output(self.dropout(raw), raw, [h[None]])

    def penalty(self, output):
        return output.raw.square().mean()  # of which no evaluation may take notice


@final
class RunningMean(Backbone):
    """The tanh of the mean of the words so far, in windows of 6."""

    def __init__(self):
        super().__init__()
        self.hidden_size, self.context = D, 6
        self.words = nn.Embedding(V, D)

    @property
    def embedding(self):
        return self.words

    def forward(self, ids, state=None):
        assert ids.shape[1] <= 6
        count = torch.arange(1, ids.shape[1] + 1)[:, None]
        hidden = torch.tanh(2 * self.words(ids).cumsum(1) / count)
        return Output(hidden, hidden, [])

    def penalty(self, output):
        return output.raw.square().mean()


def recurrent(head=None, *, rate=0.0, tied=False):
    """In float64 and training mode."""
    torch.manual_seed(0)
    return _with_head(Recurrence(rate), head, tied)


def windowed(head=None):
    """In float64 and training mode."""
    torch.manual_seed(0)
    return _with_head(RunningMean(), head, tied=False)


def _with_head(backbone, head, tied):
    built = heads.build(head or c.Softmax(), hidden_size=D, vocab_size=V, bias=True)
    model = LanguageModel(backbone, built, tied=tied).double()
    with torch.no_grad():  # surer of itself than at its start
        for parameter in model.head.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    return model


def text(num_tokens=60, seed=1, vocab_size=V):
    """Ids in which some tokens are more frequent, and which repeat themselves a little."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (num_tokens,), generator=generator)
    ids = torch.minimum(ids, torch.randint(vocab_size, (num_tokens,), generator=generator))
    half = num_tokens // 2
    ids[half : half + 8] = ids[: min(8, num_tokens - half)].clone()
    return ids


def modes(model):
    """Whether each module is in training mode."""
    return [module.training for module in model.modules()]
