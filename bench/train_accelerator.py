"""Training steps of AWD-LSTMs on an accelerator, at the papers' sizes, beside plain losses.

The recipes of the reproduction: Penn Treebank's with mixtures (12 x 70 tokens, V = 10,000), and
WikiText-2's with mixtures (15 x 70) and with one softmax (80 x 70, V = 33,278).  A mixture's plain
twin is the form of zihangdai/mos, a softmax's is `F.cross_entropy` on all scores.  In float32, as
torch runs it unless told.  Memory is what a step allocates at most beyond parameters and state.
"""

from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.parts import report, seconds
from bench.train import MODEL, K, LstmStep, Nll, fused, mixture, plain, segment, words
from wideneck.config import GSS, PLIF, HeadConfig, Sigsoftmax, Softmax
from wideneck.heads import Head
from wideneck.models.small.config import AwdLstm

ROUNDS, WARM = 20, 3
MIXTURE = AwdLstm(embedding_size=300, last_size=650, output_dropout=0.4, hidden_dropout=0.2)
SINGLE = AwdLstm(output_dropout=0.4, hidden_dropout=0.2)
HEADER = ("", "min ms", "median ms", "tokens a second", "peak MB")


def cross_entropy(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """On all scores."""
    logits = F.linear(hidden.flatten(0, 1), head.weight, head.bias)
    return F.cross_entropy(logits, targets.flatten())


def cases(scale: float) -> list[tuple[str, AwdLstm, int, int, HeadConfig, Nll]]:
    """All rows: name, model, V (scaled), sequences of a batch, head, and its loss."""
    ptb, wikitext = words(scale), words(scale, 33_278)
    mos, moss = mixture(K), mixture(K, Sigsoftmax())
    return [
        ("PTB: MoS, plain", MODEL, ptb, 12, mos, plain),
        ("PTB: MoS", MODEL, ptb, 12, mos, fused),
        ("PTB: MoSS", MODEL, ptb, 12, moss, fused),
        ("WikiText-2: MoS, plain", MIXTURE, wikitext, 15, mos, plain),
        ("WikiText-2: MoS", MIXTURE, wikitext, 15, mos, fused),
        ("WikiText-2: MoSS", MIXTURE, wikitext, 15, moss, fused),
        ("WikiText-2: softmax, plain", SINGLE, wikitext, 80, Softmax(), cross_entropy),
        ("WikiText-2: softmax", SINGLE, wikitext, 80, Softmax(), fused),
        ("WikiText-2: sigsoftmax", SINGLE, wikitext, 80, Sigsoftmax(), fused),
        ("WikiText-2: GSS", SINGLE, wikitext, 80, GSS(), fused),
        ("WikiText-2: PLIF, 1,000 knots", SINGLE, wikitext, 80, PLIF(num_knots=1000), fused),
    ]


def measured(
    device: str,
    name: str,
    model: AwdLstm,
    vocab_size: int,
    batch_size: int,
    head: HeadConfig,
    nll: Nll,
) -> list[str]:
    """Its row.  One model at a time is on the device: rounds in turns would hold them all."""
    step = LstmStep(head, nll, vocab_size, model, device)
    ids, targets = (x.to(device) for x in segment(vocab_size, batch_size=batch_size))

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
        name,
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
    rows = [measured(device.type, *case) for case in cases(scale)]
    report(f"a training step on {name}, K = {K}, float32.", HEADER, rows)
