"""The rank of the log-probability matrix of any head (Yang et al. 2018; Kanai et al. 2018).

A (N x V): row n is log p(. | context n).  The audit's `log_prob_rank` reads a linear head column by
column; a mixture, or a learned bend, gives whole rows only.  The smaller of the two Gram matrices
is summed in float64: with N <= V contexts A A^T, for which A is held as the head gives it, else
A^T A, a few rows at a time.  Cost: 2 N V min(N, V) operations, and twice the eigenvalues of a
matrix of min(N, V).

A's rows have a large common direction, 1 (its mean log-probability).  The Gram matrix is formed of
the centred rows C = A - m 1^T, and that of A from it by adding what was taken, never the other way
round: so neither loses digits.

Shapes: N contexts, V vocabulary, D hidden size.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.audits.measure import measure
from wideneck.audits.output.layer import TOKENS
from wideneck.audits.output.log_prob_rank import (
    CONTEXTS,
    LogProbRank,
    numerical_ranks,
    row_gram,
    squared_singular_values,
)
from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.heads import Head
from wideneck.models import evaluating
from wideneck.models.devices import CPU, multiplies

SPECTRUM = 4096
"""Singular values that are kept, at most."""

CURVED = 5.0
"""Scores closer to 0 than this are where a sigsoftmax is bent."""


@dataclass(frozen=True, kw_only=True)
class LogProbRanks(LogProbRank):
    """Numerical ranks of the matrix of log-probabilities, and the scores behind them."""

    num_contexts: int = measure("rows N")
    vocab_size: int = measure("columns V")
    bound: int = measure(
        "largest rank that this head can have: d + 1 for a softmax over W x, d + 2 with a bias; "
        "for mixtures and bent scores V; never more than N"
    )
    press_centred: int = measure(
        "press, its tolerance too, of the rows with their means taken out: without the direction 1"
    )
    singular_values: list[float] = measure(f"the largest {SPECTRUM:,} of them, or all")
    mean_logit: float = measure(
        "mean of the scores z, before the activation, over contexts, words and components"
    )
    sd_logit: float = measure("their standard deviation")
    share_curved: float = measure(
        f"share of them with |z| < {CURVED:g}, where a sigsoftmax is bent; far above it is a "
        "softmax, far below a softmax of 2 z"
    )


@torch.no_grad()
def log_prob_ranks(
    head: Head,
    hidden: Tensor | Iterable[Tensor],
    *,
    num_contexts: int | None = None,
    progress: Progress | None = None,
) -> LogProbRanks:
    """Ranks over the first `num_contexts` contexts that come, or as many as there are.

    Args:
        head: any; measured in eval mode.
        hidden: (..., D) of what enters the head, such as `spread_contexts` gives, or batches of it.
        num_contexts: N; None for 2,048, but no more than V.
        progress: called as progress("rank of log-probabilities", contexts done, contexts).

    Raises:
        WideneckError: no contexts come.
    """
    vocab_size = head.vocab_size
    batches = [hidden] if isinstance(hidden, Tensor) else hidden
    contexts = _first(batches, min(CONTEXTS, vocab_size) if num_contexts is None else num_contexts)
    N, logits = len(contexts), _Logits()
    # Not every accelerator has float64; where there is, the products take seconds.
    device = contexts.device if multiplies(contexts.device, torch.float64) else CPU
    with evaluating(head):
        rows = _centred_rows(head, contexts, device, logits, progress)
        if N <= vocab_size:
            gram, centred = _row_grams(rows)
        else:
            gram, centred = _column_grams(rows, vocab_size, device)
    squared = squared_singular_values(gram)
    return LogProbRanks(
        num_contexts=N,
        vocab_size=vocab_size,
        bound=min(head.rank_bound, N),
        **numerical_ranks(squared, N, vocab_size)._asdict(),
        press_centred=numerical_ranks(squared_singular_values(centred), N, vocab_size).press,
        singular_values=squared[:SPECTRUM].sqrt().tolist(),
        **logits.measured(),
    )


def _first(batches: Iterable[Tensor], num_contexts: int) -> Tensor:
    """(N, D)."""
    taken: list[Tensor] = []
    missing = num_contexts
    for part in batches:
        taken.append(part.reshape(-1, part.shape[-1])[:missing])
        missing -= len(taken[-1])
        if missing <= 0:
            break
    if missing >= num_contexts:
        raise WideneckError(
            f"A rank needs at least one context, got none; {num_contexts} were asked for."
        )
    return torch.cat(taken)


def _centred_rows(
    head: Head,
    contexts: Tensor,
    device: torch.device,
    logits: "_Logits",
    progress: Progress | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of C (n, V), in the dtype of the log-probabilities, and their m (n,), in float64."""
    done = 0
    for hidden in contexts.split(TOKENS):
        vectors, _ = head.contexts(hidden)
        logits.add(head.logit_scale * F.linear(vectors, head.weight, head.bias))
        log_p = head.log_probs(hidden).to(device)
        mean = log_p.double().mean(1)
        yield (log_p.double() - mean[:, None]).to(log_p.dtype), mean
        done += len(hidden)
        if progress:
            progress("rank of log-probabilities", done, len(contexts))


def _row_grams(rows: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A A^T = C C^T + V m m^T, for C 1 = 0; and C C^T.  Both (N, N)."""
    parts = list(rows)
    C, m = torch.cat([part for part, _ in parts]), torch.cat([mean for _, mean in parts])
    centred = row_gram(C)
    return centred + C.shape[1] * torch.outer(m, m), centred


def _column_grams(
    rows: Iterator[tuple[Tensor, Tensor]], vocab_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """A^T A = C^T C + (C^T m) 1^T + 1 (C^T m)^T + (m . m) 1 1^T; and C^T C.  Both (V, V)."""
    centred = torch.zeros(vocab_size, vocab_size, dtype=torch.float64, device=device)
    crossed, squares = centred.new_zeros(vocab_size), centred.new_zeros(())
    for C, m in rows:
        C = C.double()
        centred.addmm_(C.T, C)
        crossed += m @ C
        squares += m.dot(m)
    return centred + crossed[:, None] + crossed + squares, centred


class _Logits:
    """Mean, standard deviation and curved share of what comes, without keeping it."""

    def __init__(self):
        self.counts: list[int] = []
        self.means: list[float] = []
        self.variances: list[float] = []
        self.curved = 0

    def add(self, z: Tensor) -> None:
        variance, mean = torch.var_mean(z, correction=0)
        self.counts.append(z.numel())
        self.means.append(mean.item())
        self.variances.append(variance.item())
        self.curved += int((z.abs() < CURVED).sum())

    def measured(self) -> dict[str, Any]:
        """By the names of `LogProbRanks`."""
        count = sum(self.counts)
        mean = sum(n * m for n, m in zip(self.counts, self.means, strict=True)) / count
        parts = zip(self.counts, self.means, self.variances, strict=True)
        variance = sum(n * (v + (m - mean) ** 2) for n, m, v in parts) / count
        return {
            "mean_logit": mean,
            "sd_logit": math.sqrt(variance),
            "share_curved": self.curved / count,
        }
