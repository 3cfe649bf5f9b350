"""Loss, spread of the logits, and the share of the logit gradient that reaches the model.

One pass over the tokens: N V D operations for the scores and as many for the gradient.
Gradient retention is the quantity of Godey & Artzi 2026 (arXiv 2603.10145), by the eigenvectors of
the D x D Gram matrix instead of a V x D basis.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.measure import measure
from wideneck.audits.measured import measured, unknown
from wideneck.audits.output.layer import OutputLayer, token_chunks
from wideneck.audits.states import HiddenStates, Progress
from wideneck.functional.gram import gram


@dataclass(frozen=True, kw_only=True)
class Loss:
    """How well the model predicts the text."""

    nats_per_token: Estimate = measure("mean negative log-likelihood of the next token")
    bits_per_byte: Estimate = measure(
        "nll in bits over the UTF-8 bytes of the predicted text: compares models with different "
        "tokenizers; the interval is that of the nll"
    )
    perplexity: Estimate = measure("exp(nats_per_token)")
    uniform_nats: float = measure("log V: the loss of a model that knows nothing", unit="nats")
    unigram_nats: float = measure(
        "entropy of the predicted tokens' own frequencies: the loss of the best model without "
        "context, fitted on this very text",
        unit="nats",
        caution="on a few thousand tokens it is far below that of a model of word frequencies "
        "in general",
    )


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Size and spread of the scores that the softmax sees."""

    mean: float = measure("mean over tokens and vocabulary", caution="a softmax does not see it")
    std: float = measure("standard deviation over tokens and vocabulary")
    spread: float = measure("standard deviation over the vocabulary, mean over tokens")
    minimum: float = measure("smallest")
    maximum: float = measure("largest")


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """What is left of the logit gradient g = p - e_y once it has passed the head.

    Directions orthogonal to the columns of W never reach the model below.
    """

    energy_share: Estimate = measure(
        "||projection of g on the columns of W||^2 / ||g||^2, mean over tokens",
        caution="geometry, not harm: in the controlled test of arXiv 2608.16671 such shares did "
        "not predict how training goes on",
    )
    energy_baseline: float = measure(
        "d / V: the share that a random subspace of width d keeps; for a head of lower rank, that "
        "rank takes the place of d"
    )
    norm_share: Estimate = measure("the same for norms instead of squares, mean over tokens")
    norm_baseline: float = measure("the square root of energy_baseline")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The three results of one pass, and what later passes need of it."""

    loss: Loss
    logits: Logits
    gradient: Gradient
    log_normalizer: Tensor
    """(W, T) log sum_j exp z_j."""
    mean_probability: Tensor
    """(V,) float64, over the windows selected by `fit`."""


@torch.no_grad()
def summarize(
    layer: OutputLayer,
    states: HiddenStates,
    fit: Tensor,
    progress: Progress | None = None,
    notes: list[str] | None = None,
) -> Summary:
    """One pass.

    Args:
        layer: the head.
        states: what enters it.
        fit: (W,) marks the windows that the mean probability is taken over.
        progress: called as progress(stage, done, total).
        notes: takes what could not be measured, and why; None to raise it.
    """
    num_windows, window, _ = states.hidden.shape
    num_tokens, vocab_size = num_windows * window, len(layer.weight)
    basis = measured(
        "what is left of the logit gradient", lambda: _column_space(layer.weight), None, notes
    )
    nll, lse, energy = [], [], []
    place = {"dtype": torch.float64, "device": layer.weight.device}
    moments = torch.zeros(3, **place)  # sum, sum of squares, sum of row deviations
    minimum, maximum = math.inf, -math.inf
    mean_probability = torch.zeros(vocab_size, **place)
    chunks = token_chunks(
        states.hidden.flatten(0, 1), states.targets.flatten(), fit.repeat_interleave(window)
    )
    done = 0
    for hidden, targets, fitted in chunks:
        raw = layer.raw(hidden)
        z = layer.logit_map(raw)
        low, high = z.aminmax()
        # Squares of scores beyond 2^60 leave float32.
        wide = z.double() if max(-low.item(), high.item()) > 2.0**60 else z
        row_std, row_mean = torch.std_mean(wide, dim=1, correction=0)
        row_std, row_mean = row_std.double(), row_mean.double()
        moments += torch.stack(
            [
                row_mean.sum() * vocab_size,
                (row_std**2 + row_mean**2).sum() * vocab_size,
                row_std.sum(),
            ]
        )
        minimum, maximum = min(minimum, low.item()), max(maximum, high.item())
        lse.append(z.logsumexp(1))
        nll.append(lse[-1] - z.gather(1, targets[:, None])[:, 0])
        if fitted.any():
            p = (z[fitted] - lse[-1][fitted, None]).exp_()
            mean_probability += p.sum(0, dtype=torch.float64)
        done += len(hidden)
        if progress:
            progress("loss and gradient", done, num_tokens)
        if basis is None:
            continue
        # g = p - e_y up to a factor for each token, which no share sees: e^(z_j - largest other z)
        # and g_y = -(sum of the others).  For a sure token p itself underflows and 1 - p cancels.
        g = z.scatter_(1, targets[:, None], -torch.inf)
        g = g.sub_(g.amax(1, keepdim=True)).exp_()
        g.scatter_(1, targets[:, None], -g.sum(1, keepdim=True))
        if not layer.logit_map.is_linear:
            g *= layer.logit_map.derivative(raw)  # the gradient as it leaves the head
        reached = (g @ layer.weight).double() @ basis
        total = g.square().sum(1, dtype=torch.float64)
        energy.append(reached.square().sum(1) / total)

    def over_text(values: list[Tensor]) -> Estimate:
        return estimate(torch.cat(values).view(num_windows, window), states.document)

    count = num_tokens * vocab_size
    mean = moments[0].item() / count
    gradient = unknown(Gradient)
    if basis is not None:
        share, rank = [e.clamp(0, 1) for e in energy], basis.shape[1]
        gradient = Gradient(
            energy_share=over_text(share),
            energy_baseline=min(rank / vocab_size, 1.0),
            norm_share=over_text([e.sqrt() for e in share]),
            norm_baseline=min(math.sqrt(rank / vocab_size), 1.0),
        )
    return Summary(
        loss=loss_over_text(torch.cat(nll).view(num_windows, window), states, vocab_size),
        logits=Logits(
            mean=mean,
            std=math.sqrt(max(moments[1].item() / count - mean**2, 0)),
            spread=moments[2].item() / num_tokens,
            minimum=minimum,
            maximum=maximum,
        ),
        gradient=gradient,
        log_normalizer=torch.cat(lse).view(num_windows, window),
        mean_probability=mean_probability / max(int(fit.sum()) * window, 1),
    )


def loss_over_text(nll: Tensor, states: HiddenStates, vocab_size: int) -> Loss:
    """The loss of the tokens of `states`, from their negative log-likelihoods (W, T)."""
    nats = estimate(nll, states.document)
    per_byte = nll.numel() / int(states.num_bytes.sum()) / math.log(2)
    return Loss(
        nats_per_token=nats,
        bits_per_byte=nats.map(lambda x: x * per_byte),
        perplexity=nats.map(_perplexity),
        uniform_nats=math.log(vocab_size),
        unigram_nats=_entropy(states.targets),
    )


def _perplexity(nats: float) -> float:
    """Finite wherever the loss is: beyond 700 nats float64 overflows."""
    return math.exp(min(nats, 700.0)) if math.isfinite(nats) else math.nan


def _column_space(weight: Tensor) -> Tensor:
    """B (D, R) such that the columns of W B are orthonormal and span those of W.

    ||B^T W^T g|| is then the length of the projection of g.
    Directions below the rounding of a float32 product are left out: divided by their singular
    value, that rounding would pass for signal.
    """
    mean, centred = gram(weight)
    values, vectors = torch.linalg.eigh(centred + len(weight) * torch.outer(mean, mean))
    floor = torch.finfo(torch.float32).eps * math.sqrt(len(mean))
    kept = values > values[-1] * (4 * floor) ** 2
    return vectors[:, kept] / values[kept].sqrt()


def _entropy(targets: Tensor) -> float:
    p = targets.flatten().unique(return_counts=True)[1].double() / targets.numel()
    return -torch.xlogy(p, p).sum().item()
