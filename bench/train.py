"""What training costs: a mixture's part of a step, a whole step, a head alone, an interruption.

    python -m bench train                      everything, some 5 minutes on 2 quiet cores
    python -m bench train head states          only these
    python -m bench train --scale 0.1          small sizes, to see that it runs

Parts: head (MoSS, K = 10, in an AWD-LSTM, beside its matrix products), step (a whole step with
MoS, K = 15, beside the head written plainly; time and peak memory), states (a head alone on cached
states, beside its matrix products), resume (checkpoints, and how soon an interrupted run goes on),
watch (what `wideneck.Watch` adds to a step),
instability (two watched runs, one at 30 times the rate, and the figures of docs/watch.md),
accelerator (whole steps at the papers' sizes, where there is one).
The tables are Markdown; "x floor" and "x plain" are medians over rounds of the time over the
reference's in the same round, "of minima" the ratio of the two shortest times.

The LSTM has the sizes of the MoS paper on PTB (Yang, Dai, Salakhutdinov & Cohen 2018), as
zihangdai/mos has them: embeddings of 280, LSTMs of 960, 960 and 620, batches of 12 rows of 70
tokens, V = 10,000; words are drawn at random.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.parts import from_child, in_turns, ratio, report, run_parts, timed, verdict
from bench.resident import growth
from wideneck.config import Activation, HeadConfig, Mixture, Softmax
from wideneck.heads import Head
from wideneck.heads.mixture import MixtureHead
from wideneck.models.small.config import AwdLstm
from wideneck.models.small.language_model import LanguageModel, language_model

PARTS = {
    "head": "train_floor.head",
    "step": "train.step",
    "states": "train_floor.states",
    "resume": "train_resume.resume",
    "watch": "train_watch.watch",
    "instability": "train_watch.instability",
    "accelerator": "train_accelerator.accelerator",
}
Nll = Callable[[Head, Tensor, Tensor], Tensor]
"""The mean loss of a head on hidden states and targets."""
BATCH, SEGMENT, K = 12, 70, 15
STEPS, FASTER, SMALLER = 7, 1.25, 5.0
"""Rounds of a whole step, and its limits."""
MODEL = AwdLstm(
    embedding_size=280,
    hidden_size=960,
    last_size=620,
    output_dropout=0.4,
    hidden_dropout=0.225,
    input_dropout=0.4,
)
DROPOUT = 0.29
"""Dropout of the contexts."""
LEARNING_RATE, WEIGHT_DECAY, CLIP = 20.0, 1.2e-6, 0.25
HEADER = ("", "rounds", "min s", "median s", "x floor", "of minima")

main = partial(run_parts, "train", PARTS)


def words(scale: float, vocab_size: int = 10_000) -> int:
    """V."""
    return max(64, round(vocab_size * scale))


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
        nll: its loss.
        vocab_size: V.
        model: the LSTM.
        device: where it runs.
    """

    def __init__(
        self,
        head: HeadConfig,
        nll: Nll,
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


def lowest(times: Mapping[str, list[float]], names: Iterable[str]) -> list[float]:
    """The shortest time of each round: one floor of several."""
    return [min(round) for round in zip(*(times[name] for name in names), strict=True)]


OURS, PLAIN = "wideneck", "the form of zihangdai/mos"
LOSSES = {OURS: fused, PLAIN: plain}


def step(scale: float) -> None:
    vocab_size = words(scale)
    peaks = {name: from_child("train.peak", name, vocab_size) for name in LOSSES}
    steps = {name: LstmStep(mixture(K), nll, vocab_size) for name, nll in LOSSES.items()}
    given = segment(vocab_size)
    runs = {name: lambda step=step: step(*given) for name, step in steps.items()}
    times = in_turns(runs, dict.fromkeys(runs, STEPS))
    report(
        f"a training step, {steps[OURS].model.num_parameters:,} parameters, MoS K = {K}, "
        f"{BATCH} x {SEGMENT} tokens, V {vocab_size:,}: forward, backward, clipping, SGD.",
        ("", "rounds", "min s", "median s", "x plain", "of minima", "peak MB"),
        [[*row, f"{peaks[row[0]] / 1e6:,.0f}"] for row in timed(times, times[PLAIN])],
        [
            verdict("times faster", ratio(times[PLAIN], times[OURS]), FASTER, least=True),
            verdict("times less memory", peaks[PLAIN] / peaks[OURS], SMALLER, least=True),
        ],
    )


def peak(name: str, vocab_size: int) -> int:
    """Bytes that one step adds to this process at most, after a step on short segments.

    That is the growth of its resident set, gradients included; see bench/resident.py.
    """
    step = LstmStep(mixture(K), LOSSES[name], vocab_size)
    step(*segment(vocab_size, 2))  # threads and libraries
    given = segment(vocab_size)
    return growth(lambda: step(*given))
