"""Whether the fused loss on an accelerator is what it is on a CPU.

Errors are norms of differences over norms, to float64, the largest of the losses and gradients of
X and W; "naive" is the same of scores in the dtype, then float32.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.functional import linear_cross_entropy, log_prob

Row = dict[str, Any]
FORMS = ("softmax", "sigsoftmax", "gss", "relu", "sigmoid", "softcap", "plif")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SPREADS = (0.5, 4.0, 12.0)


def correct(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Seven forms in three dtypes; rows far above their target; equal bits; captured graphs."""
    N, D, V = (32, 16, 100) if tiny else (512, 256, 8000)
    for form in FORMS:
        for dtype in DTYPES:
            worst: Row = {"ours": 0.0, "naive": 0.0}
            for spread in SPREADS:
                given = _batch(N, D, V, spread, dtype, device)
                gold = _results(_naive, [t.double() for t in given[:2]] + [given[2]], form)
                for who, loss_of in (("ours", _ours), ("naive", _naive)):
                    found = _results(loss_of, given, form)
                    worst[who] = max(
                        worst[who], *(_error(*pair) for pair in zip(found, gold, strict=True))
                    )
            good = worst["ours"] <= 1.06 * worst["naive"] + 1e-6
            yield {"what": f"{form}, {dtype}", **worst, "verdict": "met" if good else "MISSED"}
    yield _far(N, D, V, device)
    yield _same_bits(N, D, V, device)
    if device.type == "cuda":
        yield _captured(N, D, V, device)
        yield _large(device)


def _batch(
    N: int, D: int, V: int, spread: float, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    made = torch.Generator().manual_seed(0)  # on the CPU: the same numbers on every device
    x = torch.randn(N, D, generator=made)
    W = torch.randn(V, D, generator=made) * spread * D**-0.5
    target = torch.randint(V, (N,), generator=made)
    if spread >= 4:  # targets that the model finds likely
        target = torch.multinomial((x @ W.T).softmax(-1), 1, generator=made)[:, 0]
    return [x.to(device, dtype), W.to(device, dtype), target.to(device)]


def _ours(x: Tensor, W: Tensor, target: Tensor, form: str) -> Tensor:
    return linear_cross_entropy(x, W, target, activation=form, reduction="none")


def _naive(x: Tensor, W: Tensor, target: Tensor, form: str) -> Tensor:
    z = F.linear(x, W)
    z = z if z.dtype == torch.float64 else z.float()
    return F.nll_loss(log_prob(z, form), target, reduction="none")


def _results(loss_of: Any, given: list[Tensor], form: str) -> list[Tensor]:
    x, W = (t.detach().requires_grad_() for t in given[:2])
    loss = loss_of(x, W, given[2], form)
    return [loss.detach(), *torch.autograd.grad(loss.sum(), (x, W))]


def _error(found: Tensor, gold: Tensor) -> float:
    return float((found.double() - gold).norm() / gold.norm())


def _far(N: int, D: int, V: int, device: torch.device) -> Row:
    given = _batch(N, D, V, 2.0, torch.bfloat16, device)
    given[0][::7] *= 40
    gold = _results(_naive, [t.double() for t in given[:2]] + [given[2]], "softmax")
    ours, naive = (
        max(_error(*pair) for pair in zip(_results(f, given, "softmax"), gold, strict=True))
        for f in (_ours, _naive)
    )
    return {
        "what": f"rows of {float(gold[0].max()):.0f} nats",
        "ours": ours,
        "naive": naive,
        "verdict": "met" if ours <= 1.06 * naive + 1e-6 else "MISSED",
    }


def _same_bits(N: int, D: int, V: int, device: torch.device) -> Row:
    given = _batch(N, D, V, 2.0, torch.bfloat16, device)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (_results(_ours, given, "sigsoftmax") for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    return {"what": "two runs, deterministic", "verdict": "same bits" if same else "OTHER BITS"}


def _captured(N: int, D: int, V: int, device: torch.device) -> Row:
    """A graph of forward and backward, replayed; no host may wait meanwhile."""
    x, W, target = _batch(N, D, V, 2.0, torch.bfloat16, device)
    target[::3] = -100
    x, W = x.requires_grad_(), W.requires_grad_()
    want = linear_cross_entropy(x, W, target)
    wanted = torch.autograd.grad(want, (x, W))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            torch.autograd.grad(linear_cross_entropy(x, W, target), (x, W))
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = linear_cross_entropy(x, W, target)
        gradients = torch.autograd.grad(loss, (x, W))
    graph.replay()
    torch.cuda.synchronize()
    error = max(
        _error(a, b.double()) for a, b in zip((loss, *gradients), (want, *wanted), strict=True)
    )
    return {
        "what": "captured in a graph, to eager",
        "ours": error,
        "verdict": "met" if error < 2**-7 else "MISSED",
    }


def _large(device: torch.device) -> Row:
    """A chunk of nearly 2**31 scores: kernels that count in 32 bits would go astray."""
    V = 524_288
    given = _batch(4095, 64, V, 2.0, torch.bfloat16, device)
    whole = linear_cross_entropy(*given, reduction="none", chunk_size=4095)
    parts = linear_cross_entropy(*given, reduction="none", chunk_size=512)
    error = float((whole - parts).abs().max())
    return {
        "what": "2**31 scores in a chunk",
        "ours": error,
        "verdict": "met" if error < 1e-4 else "MISSED",
    }
