"""The heads of the study: where each starts, how it is trained, what is measured of it.

Every head starts from the model's own output matrix.  All but `sigsoftmax_bent` also start from
the model's own predictions, to 0.01 nats a token.  Shapes: N tokens, D hidden size, V vocabulary.
"""

import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

import wideneck as wn
from bench.studies import train, warmed_cosine
from wideneck import config as c
from wideneck import sizes
from wideneck.audits.output.head_ranks import LogProbRanks, log_prob_ranks
from wideneck.heads import Head
from wideneck.training.state_cache import CachedStates

WINDOW = 512
"""Tokens that the model reads at a time."""
CONTEXTS = 2048
TOKENS = 128
"""Tokens a chunk where all V log-probabilities of each are formed."""
WARM_UP = 0.05
FINAL_LR = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every head is trained: AdamW, one pass over the training tokens."""

    batch: int
    """Tokens a step, drawn from all windows."""
    lr: float
    """Rate of the output matrix."""
    projection_lr: float
    """Rate of the prior and the projections of a mixture."""
    scalar_lr: float
    """Rate of the learned numbers of an activation."""


@torch.no_grad()
def starts(states: CachedStates) -> dict[str, c.HeadConfig]:
    """Every head of the study with the numbers that it starts from.

    A sigsoftmax starts with its shift so far up that it is the softmax; a gss with slope 1, which
    is the softmax, and its bend amid the logits, at their mean under the model's probabilities.
    A moc has the parameters of a mos and the rank of a softmax: the control of the mixtures.
    """
    hidden = states.splits["train"].hidden
    picked = hidden[:: max(1, len(hidden) // 1024)]
    low, high, means = math.inf, -math.inf, []
    for hidden in picked.split(TOKENS):
        logits = hidden @ states.weight.T * states.logit_scale
        low, high = min(low, logits.min().item()), max(high, logits.max().item())
        means.append((logits.softmax(-1) * logits).sum(-1))
    middle = torch.cat(means).mean().item()
    sigsoftmax = c.Sigsoftmax(shift=5 - low + (high - low) / 4, learned=True)
    mixture = {"num_components": 4, "projection": "residual"}
    return {
        "softmax": c.Softmax(),
        "scaled_softmax": c.ScaledSoftmax(learned=True),
        "gss": c.GSS(bend=middle, slope=1.0, learned=True),
        "sigsoftmax": sigsoftmax,
        "sigsoftmax_bent": c.Sigsoftmax(shift=-middle, learned=True),
        "moc": c.MoC(**mixture),
        "mos": c.Mixture(**mixture),
        "moss": c.Mixture(activation=sigsoftmax, **mixture),
    }


def run(config: c.HeadConfig, seed: int, states: CachedStates, recipe: Recipe) -> dict:
    """Train one head and measure it before and after.  Losses are means in nats a token."""
    torch.manual_seed(seed)  # of the prior of a mixture
    vocab_size, hidden_size = states.weight.shape
    head = wn.heads.build(
        config,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        logit_scale=states.logit_scale,
    )
    with torch.no_grad():
        head.weight.copy_(states.weight)
    before = _losses(head, states).mean().item()
    seconds = _train(head, seed, states, recipe)
    after = _losses(head, states)
    rank = _rank(head, states)
    return {
        "parameters_added": sizes.num_parameters(config, hidden_size, vocab_size),
        "loss_before": before,
        "loss_after": after.mean().item(),
        "loss_by_window": after.tolist(),
        "documents": states.splits["valid"].document.tolist(),
        "rank_contexts": rank.num_contexts,
        "rank_press": rank.press,
        "rank_1e3": rank.effective_1e3,
        "rank_1e4": rank.effective_1e4,
        "learned": {name: p.item() for name, p in head.activation.named_parameters()},
        "started": head.activation.starts,
        "seconds_a_step": statistics.median(seconds),
    }


def _train(head: Head, seed: int, states: CachedStates, recipe: Recipe) -> list[float]:
    """Seconds of every step."""
    groups = {"weight": [], "projections": [], "activation": []}
    for name, parameter in head.named_parameters():
        groups[name.split(".")[0]].append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups["weight"], "lr": recipe.lr},
            {"params": groups["projections"], "lr": recipe.projection_lr},
            {"params": groups["activation"], "lr": recipe.scalar_lr},
        ],
        betas=(0.9, 0.95),
        weight_decay=0.0,
        fused=True,
    )
    data = states.splits["train"]
    num_steps = len(data.target) // recipe.batch
    # The order is the seed's alone, the same for every head.
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(seed))

    def loss(step: int) -> Tensor:
        picked = order[step * recipe.batch :][: recipe.batch]
        return head.nll(data.hidden[picked], data.target[picked].long(), reduction="mean")

    factor = warmed_cosine(num_steps, WARM_UP, FINAL_LR)
    return train(optimizer, factor, head.parameters(), 1.0, num_steps, loss)


@torch.no_grad()
def _losses(head: Head, states: CachedStates) -> Tensor:
    """Mean loss of every window of the validation text, float64."""
    valid = states.splits["valid"]
    chunks = zip(valid.hidden.split(1024), valid.target.split(1024), strict=True)
    losses = [head.nll(hidden, target.long()) for hidden, target in chunks]
    return torch.cat(losses).double().view(-1, WINDOW).mean(1)


def _rank(head: Head, states: CachedStates) -> LogProbRanks:
    """On contexts at equal distances over the validation text."""
    hidden = states.splits["valid"].hidden
    picked = torch.linspace(0, len(hidden) - 1, min(len(hidden), CONTEXTS)).round().long()
    return log_prob_ranks(head, hidden[picked], num_contexts=len(picked))
