"""The head's part of a training step beside the floor of its matrix products.

python -m bench.train_head SCALE        JSON on standard output

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
from bench.parts import in_turns, ratio, report, start, verdict
from bench.train_case import (
    BATCH,
    HEADER,
    MODEL,
    SEGMENT,
    VOCAB_SIZE,
    lowest,
    mixture,
    segment,
    timed,
)
from wideneck import heads
from wideneck.config import Mixture, Sigsoftmax, Softmax
from wideneck.heads.mixture import MixtureHead

K, ROUNDS = 10, 11
LIMIT = 1.25


def step(head: MixtureHead, hidden: Tensor, targets: Tensor) -> Callable[[], None]:
    """The head's part of a step, with fresh gradients."""

    def run() -> None:
        head.zero_grad()
        hidden.grad = None
        head.nll(hidden, targets, reduction="mean").backward()

    return run


def part(config: Mixture, vocab_size: int) -> tuple[MixtureHead, Tensor]:
    """A head in training mode, and hidden states."""
    torch.manual_seed(0)
    head = heads.build(
        config,
        hidden_size=MODEL.last_size or 0,
        vocab_size=vocab_size,
        bias=True,
        embedding_size=MODEL.embedding_size,
    )
    assert isinstance(head, MixtureHead)
    return head, torch.rand(BATCH, SEGMENT, head.hidden_size).requires_grad_()


def main() -> None:
    scale = start()
    vocab_size = max(64, round(VOCAB_SIZE * scale))
    _, targets = segment(vocab_size)
    ours, other = f"MoSS, K = {K}", f"MoS, K = {K}"
    head, hidden = part(mixture(K, Sigsoftmax()), vocab_size)
    contexts = torch.randn(targets.numel() * K, head.embedding_size)
    own, rows = head.projections, hidden.detach().flatten(0, 1)
    narrow = [fastest(rows, own.latent.weight), fastest(rows, own.prior.weight)]
    floors = {}
    for layout in LAYOUTS:
        scores = fastest(contexts, head.weight, [layout])
        floors[f"floor, {scores}"] = [scores, *narrow]
    runs = {
        **{
            name: lambda parts=parts: [products() for products in parts]
            for name, parts in floors.items()
        },
        ours: step(head, hidden, targets),
        other: step(*part(mixture(K, Softmax()), vocab_size), targets),
    }
    times = in_turns(runs, dict.fromkeys(runs, ROUNDS))
    floor = lowest({name: times[name] for name in floors})
    report(
        f"the head's part of a step, forward and backward: {targets.numel()} tokens, D "
        f"{head.hidden_size}, E {head.embedding_size}, V {vocab_size:,}, bias, contexts dropped.",
        HEADER,
        timed(times, floor),
        [verdict(f"{ours}: time over the floor", ratio(times[ours], floor), LIMIT)],
    )


if __name__ == "__main__":
    main()
