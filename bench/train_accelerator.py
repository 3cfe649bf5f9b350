"""Training steps of AWD-LSTMs on an accelerator, at the papers' sizes, beside plain losses.

The recipes of the reproduction: Penn Treebank's with mixtures (12 x 70 tokens, V = 10,000), and
WikiText-2's with mixtures (15 x 70) and with one softmax (80 x 70, V = 33,278).  A mixture's plain
twin is the form of zihangdai/mos, a softmax's is `F.cross_entropy` on all scores.  In float32, as
torch runs it unless told.  Memory is what a step allocates at most beyond parameters and state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.parts import report, seconds
from bench.train import MODEL, LstmStep, fused, mixture, plain, segment, words
from wideneck.config import GSS, PLIF, HeadConfig, Sigsoftmax, Softmax
from wideneck.heads import Head
from wideneck.models.small.config import AwdLstm

K, ROUNDS, WARM = 15, 20, 3
MIXTURE = AwdLstm(embedding_size=300, last_size=650, output_dropout=0.4, hidden_dropout=0.2)
SINGLE = AwdLstm(output_dropout=0.4, hidden_dropout=0.2)
HEADER = ("", "min ms", "median ms", "tokens a second", "peak MB")


def cross_entropy(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """On all scores."""
    logits = F.linear(hidden.flatten(0, 1), head.weight, head.bias)
    return F.cross_entropy(logits, targets.flatten())


@final
@dataclass(frozen=True)
class Case:
    """A row: a model, its batch, a head, and its loss."""

    name: str
    model: AwdLstm
    vocab_size: int
    batch_size: int
    head: HeadConfig
    nll: Callable[[Head, Tensor, Tensor], Tensor] = fused


def cases(scale: float) -> list[Case]:
    """All rows; V is scaled."""
    ptb, wikitext = words(scale), words(scale, 33_278)
    mos, moss = mixture(K), mixture(K, Sigsoftmax())
    return [
        Case("PTB: MoS, plain", MODEL, ptb, 12, mos, plain),
        Case("PTB: MoS", MODEL, ptb, 12, mos),
        Case("PTB: MoSS", MODEL, ptb, 12, moss),
        Case("WikiText-2: MoS, plain", MIXTURE, wikitext, 15, mos, plain),
        Case("WikiText-2: MoS", MIXTURE, wikitext, 15, mos),
        Case("WikiText-2: MoSS", MIXTURE, wikitext, 15, moss),
        Case("WikiText-2: softmax, plain", SINGLE, wikitext, 80, Softmax(), cross_entropy),
        Case("WikiText-2: softmax", SINGLE, wikitext, 80, Softmax()),
        Case("WikiText-2: sigsoftmax", SINGLE, wikitext, 80, Sigsoftmax()),
        Case("WikiText-2: GSS", SINGLE, wikitext, 80, GSS()),
        Case("WikiText-2: PLIF, 1,000 knots", SINGLE, wikitext, 80, PLIF(num_knots=1000)),
    ]


def measured(case: Case, device: str) -> list[str]:
    """Its row.  One model at a time is on the device: rounds in turns would hold them all."""
    step = LstmStep(case.head, case.nll, case.vocab_size, case.model, device)
    given = segment(case.vocab_size, batch_size=case.batch_size)
    ids, targets = (x.to(device) for x in given)

    def run() -> None:
        step(ids, targets)
        torch.accelerator.synchronize()

    for _ in range(WARM):
        run()
    torch.accelerator.reset_peak_memory_stats()
    before = torch.accelerator.memory_allocated()
    times = [seconds(run) for _ in range(ROUNDS)]
    peak = torch.accelerator.max_memory_allocated() - before
    return [
        case.name,
        f"{1e3 * min(times):.1f}",
        f"{1e3 * median(times):.1f}",
        f"{ids.numel() / median(times):,.0f}",
        f"{peak / 1e6:,.0f}",
    ]


def accelerator(scale: float) -> None:
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        report("no accelerator here, nothing measured.", HEADER, [])
        return
    name = torch.cuda.get_device_name() if device.type == "cuda" else str(device)
    rows = [measured(case, device.type) for case in cases(scale)]
    report(f"a training step on {name}, K = {K}, float32.", HEADER, rows)
