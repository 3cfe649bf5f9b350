"""Heads on languages of known rank: a head and the contexts' hidden states, fitted together.

Every context has a hidden state of its own, a free vector of d numbers, so nothing but the head
limits what can be written.  The loss is exact: the mean over contexts of KL(P_c || Q_c), float64.
The hidden states start small, so that all contexts start as one; mixtures that start with far
contexts end in worse minima.  All heads have a bias and one schedule.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import torch
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.audits.states import Progress
from wideneck.heads import build
from wideneck.lab.jobs import Show, side_by_side
from wideneck.lab.sigsoftmax.known_rank.bound import softmax_kl_bound
from wideneck.lab.sigsoftmax.known_rank.contenders import (
    CONTENDERS,
    head_parameters,
    hidden_size,
)
from wideneck.lab.sigsoftmax.known_rank.language import LANGUAGES, Language

NUM_STEPS = 1000
LEARNING_RATE = 0.1
"""Adam's rate, which falls to 0 along a cosine."""
BETAS = (0.9, 0.99)
START = 0.1
"""Standard deviation of the hidden states at the start."""
WIDTHS = (2, 4, 8, 16)
STAGE = "language of known rank"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was found of one head of one width with one seed."""

    language: str = measure("name of the language")
    head: str = measure("the head")
    width: int = measure("d of the column")
    hidden_size: int = measure("d of this head: the width, but for the matched softmax")
    seed: int = measure("decides the start of the head and of the hidden states")
    kl: float = measure(
        "mean over contexts of KL(P || Q) at the end",
        unit="nats",
        caution="what this training reached, not the least that the head can reach",
    )
    bound: float = measure(
        "no softmax of this hidden size, with any weights and hidden states, is below it; proved",
        unit="nats",
        caution="a lower bound: the best softmax that was found lies four to twenty times above it",
    )
    rank: int = measure(
        "numerical rank (Press et al. 2007, epsilon of float32) of the fitted log-probabilities"
    )
    rank_float64: int = measure(
        "singular values of the same above max(C, V) s_0 2^-52",
        caution="counts what is far too small to matter to the KL",
    )
    true_rank: int = measure("rank of the language's matrix of log-probabilities")
    true_rank_press: int = measure("its numerical rank by Press")
    num_parameters: int = measure("numbers of the head and its bias; hidden states are not counted")
    num_steps: int = measure("optimizer's steps")
    seconds: float = measure("duration of the fit", unit="seconds")


def known_rank(
    *,
    num_seeds: int,
    progress: Progress,
    languages: Sequence[str] = tuple(LANGUAGES),
    heads: Sequence[str] = tuple(CONTENDERS),
    widths: Sequence[int] = WIDTHS,
    num_steps: int = NUM_STEPS,
) -> list[Fit]:
    """Every head of every width on every language over seeds 0, 1, ..., in this order.

    Some minutes on two cores.
    """
    arms = list(product(languages, heads, widths, range(num_seeds)))
    jobs = {arm: partial(_fit, num_steps, *arm) for arm in arms}
    found = dict(side_by_side(jobs, partial(progress, STAGE)))
    return [found[arm] for arm in arms]


def _fit(num_steps: int, language: str, head: str, width: int, seed: int, show: Show) -> Fit:
    """A process gets the language by its name and makes it once, with its bounds."""
    return fit(LANGUAGES[language](), head, width, seed, num_steps=num_steps, show=show)


def fit(
    language: Language,
    head: str,
    width: int,
    seed: int,
    *,
    num_steps: int = NUM_STEPS,
    show: Show = lambda share: None,
) -> Fit:
    """Fit one of `CONTENDERS` in the column of a width, from a start that the seed decides."""
    began = time.perf_counter()
    truth = language.log_probs
    size = hidden_size(head, width, language.vocab_size)
    fitted = fitted_log_probs(language, head, size, seed, num_steps=num_steps, show=show)
    seconds = time.perf_counter() - began
    return Fit(
        language=language.name,
        head=head,
        width=width,
        hidden_size=size,
        seed=seed,
        kl=max(0.0, mean_kl(truth, fitted).item()),  # rounding may leave -1e-16
        bound=_bound(language, size),
        rank=numerical_rank(fitted),
        rank_float64=int(torch.linalg.matrix_rank(fitted)),
        true_rank=language.rank,
        true_rank_press=numerical_rank(truth),
        num_parameters=head_parameters(CONTENDERS[head], size, language.vocab_size),
        num_steps=num_steps,
        seconds=round(seconds, 2),
    )


def fitted_log_probs(
    language: Language,
    head: str,
    hidden_size: int,
    seed: int,
    *,
    num_steps: int,
    show: Show = lambda share: None,
) -> Tensor:
    """The log-probabilities (C, V) of a head and hidden states that were fitted to a language.

    Leaves torch's generator as it was.
    """
    truth = language.log_probs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = build(
            CONTENDERS[head], hidden_size=hidden_size, vocab_size=language.vocab_size, bias=True
        ).double()
        hidden = (START * torch.randn(len(truth), hidden_size, dtype=truth.dtype)).requires_grad_()
    optimizer = torch.optim.Adam(
        [hidden, *layer.parameters()], lr=LEARNING_RATE, betas=BETAS, fused=True
    )
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * step / num_steps)) / 2
    )
    for step in range(num_steps):
        loss = mean_kl(truth, layer.log_probs(hidden))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        show((step + 1) / num_steps)
    return layer.log_probs(hidden).detach()


@cache
def _bound(language: Language, hidden_size: int) -> float:
    """The same for every head and seed."""
    return softmax_kl_bound(language.log_probs, hidden_size)


def mean_kl(truth: Tensor, log_probs: Tensor) -> Tensor:
    """The mean over contexts of sum_v P_cv (log P_cv - log Q_cv), nats.

    Args:
        truth: log P (C, V).
        log_probs: log Q (C, V).
    """
    return (truth.exp() * (truth - log_probs)).sum(-1).mean()
