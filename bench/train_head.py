"""The head's part of a training step beside the floor of its matrix products.

The part: prior and contexts from hidden states (B, T, D), dropout, fused loss, and the gradients
of all of them.  Its products are three a matrix (scores, dX, dW): of the prior (K, D), of the
latent projection (K E, D) and of the output matrix (V, E) on every component's context, each in
the layout and the chunk that are fastest today (bench/floor.py); of the output matrix both layouts
run in every round, and the faster is the round's floor.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.floor import LAYOUTS, fastest
from bench.parts import in_turns, ratio, report, timed, verdict
from bench.train import BATCH, HEADER, MODEL, SEGMENT, lowest, mixture, segment, words
from wideneck import heads
from wideneck.config import Mixture, Sigsoftmax, Softmax
from wideneck.heads.mixture import MixtureHead

K, ROUNDS = 10, 11
LIMIT = 1.25


def training(
    config: Mixture, vocab_size: int, targets: Tensor
) -> tuple[MixtureHead, Tensor, Callable[[], None]]:
    """A head, hidden states, and the head's part of a step, with fresh gradients."""
    torch.manual_seed(0)
    head = heads.build(
        config,
        hidden_size=MODEL.last_size or 0,
        vocab_size=vocab_size,
        bias=True,
        embedding_size=MODEL.embedding_size,
    )
    assert isinstance(head, MixtureHead)
    hidden = torch.rand(BATCH, SEGMENT, head.hidden_size).requires_grad_()

    def step() -> None:
        head.zero_grad()
        hidden.grad = None
        head.nll(hidden, targets, reduction="mean").backward()

    return head, hidden, step


def head(scale: float) -> None:
    vocab_size = words(scale)
    _, targets = segment(vocab_size)
    ours, other = f"MoSS, K = {K}", f"MoS, K = {K}"
    head, hidden, step = training(mixture(K, Sigsoftmax()), vocab_size, targets)
    contexts = torch.randn(targets.numel() * K, head.embedding_size)
    own, rows = head.projections, hidden.detach().flatten(0, 1)
    narrow = [fastest(rows, own.latent.weight), fastest(rows, own.prior.weight)]
    runs: dict[str, Callable[[], object]] = {}
    for layout in LAYOUTS:
        scores = fastest(contexts, head.weight, [layout])
        runs[f"floor, {scores}"] = lambda scores=scores: [run() for run in (scores, *narrow)]
    floors = list(runs)
    runs |= {ours: step, other: training(mixture(K, Softmax()), vocab_size, targets)[2]}
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    floor = lowest(times, floors)
    report(
        f"the head's part of a step, forward and backward: {targets.numel()} tokens, D "
        f"{head.hidden_size}, E {head.embedding_size}, V {vocab_size:,}, bias, contexts dropped.",
        HEADER,
        timed(times, floor),
        [verdict(f"{ours}: time over the floor", ratio(times[ours], floor), LIMIT)],
    )
