"""The AWD-LSTM with a mixture that the training benchmarks run: the sizes of the MoS paper on PTB.

Yang, Dai, Salakhutdinov & Cohen 2018, as zihangdai/mos has them: embeddings of 280, LSTMs of 960,
960 and 620, batches of 12 rows of 70 tokens, V = 10,000; words are drawn at random.
"""

from collections.abc import Callable, Mapping
from statistics import median
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.parts import ratio
from wideneck.config import Activation, HeadConfig, Mixture, Softmax
from wideneck.heads import Head
from wideneck.heads.mixture import MixtureHead
from wideneck.models.small.config import AwdLstm
from wideneck.models.small.language_model import LanguageModel, language_model

BATCH, SEGMENT, VOCAB_SIZE = 12, 70, 10_000
MODEL = AwdLstm(
    embedding_size=280,
    hidden_size=960,
    last_size=620,
    output_dropout=0.4,
    hidden_dropout=0.225,
    input_dropout=0.4,
)
DROPOUT = 0.29
"""Of the contexts."""
LEARNING_RATE, WEIGHT_DECAY, CLIP = 20.0, 1.2e-6, 0.25
HEADER = ("", "rounds", "min s", "median s", "x floor", "of minima")


def mixture(num_components: int, activation: Activation | None = None) -> Mixture:
    """K components of an activation, softmax unless told."""
    return Mixture(
        activation=activation or Softmax(), num_components=num_components, dropout=DROPOUT
    )


def segment(
    vocab_size: int, length: int = SEGMENT, batch_size: int = BATCH
) -> tuple[Tensor, Tensor]:
    """Ids and targets (B, T)."""
    text = torch.randint(vocab_size, (batch_size, length + 1))
    return text[:, :-1], text[:, 1:]


@final
class LstmStep:
    """Forward pass, backward pass, clipping and SGD; the state is carried.

    Args:
        head: what turns hidden states into losses.
        nll: the mean loss of the head on hidden states and targets.
        vocab_size: V.
        model: the LSTM.
        device: where it runs.
    """

    def __init__(
        self,
        head: HeadConfig,
        nll: Callable[[Head, Tensor, Tensor], Tensor],
        vocab_size: int,
        model: AwdLstm = MODEL,
        device: str = "cpu",
    ):
        torch.manual_seed(0)
        built: LanguageModel = language_model(model, head, vocab_size=vocab_size)
        self.model = built.to(device)
        self.nll = nll
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        self.state: list[Tensor] = []

    def __call__(self, ids: Tensor, targets: Tensor) -> float:
        output = self.model.backbone(ids, [x.detach() for x in self.state])
        nll = self.nll(self.model.head, output.hidden, targets)
        (nll + self.model.backbone.penalty(output)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state = output.state
        return nll.item()


def fused(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """Ours."""
    return head.nll(hidden, targets, reduction="mean")


def plain(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """What zihangdai/mos (model.py, main.py) does with the same parameters, written out by us."""
    assert isinstance(head, MixtureHead)
    own, K = head.projections, head.projections.config.num_components
    latent = own.latent(hidden).tanh()
    keep = F.dropout(latent.new_ones(len(latent), 1, latent.shape[-1]), DROPOUT, head.training)
    logits = F.linear((latent * keep).view(-1, head.embedding_size), head.weight, head.bias)
    prior = own.prior(hidden).view(-1, K).softmax(-1)
    prob = logits.softmax(-1).view(-1, K, head.vocab_size)
    mixed = (prob * prior.unsqueeze(2)).sum(1)
    return F.nll_loss(torch.log(mixed.add_(1e-8)), targets.flatten())


def timed(times: Mapping[str, list[float]], reference: list[float]) -> list[list[str]]:
    """Rows of a table: name, rounds, shortest and median seconds, and both ratios."""
    return [
        [
            name,
            str(len(own)),
            f"{min(own):.3f}",
            f"{median(own):.3f}",
            f"{ratio(own, reference):.2f}",
            f"{min(own) / min(reference):.2f}",
        ]
        for name, own in times.items()
    ]


def lowest(times: Mapping[str, list[float]]) -> list[float]:
    """The shorter time of each round: one floor of several."""
    return [min(round) for round in zip(*times.values(), strict=True)]
