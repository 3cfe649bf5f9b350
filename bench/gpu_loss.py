"""The fused loss on an accelerator: its ceilings, five cases beside the peers, and its parts.

F, the floor, is three bfloat16 products with float32 sums at our chunks, measured alone in the same
run, and one pass of 6 bytes a score at the measured speed of a copy.  Every time is the shortest
of several rounds that took turns.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.config import activation_config
from wideneck.functional import linear_cross_entropy
from wideneck.functional.affine import affine
from wideneck.functional.apart import _weigh
from wideneck.functional.chunks import BYTES, chunk_tokens
from wideneck.functional.products import PRODUCTS, kind_for
from wideneck.functional.shard import WHOLE

Row = dict[str, Any]
LIMIT = 1.15
ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """N tokens, K components, D hidden, V vocabulary."""

    name: str
    N: int
    D: int
    V: int
    K: int = 1

    def sized(self, tiny: bool) -> "Case":
        return Case(self.name, 64, 32, 500, min(self.K, 3)) if tiny else self

    def batch(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Contexts, weights, targets and log-prior; scores of a standard deviation of 2."""
        made = torch.Generator(device).manual_seed(0)
        draw = partial(torch.randn, generator=made, device=device)
        shape = (self.N,) if self.K == 1 else (self.N, self.K)
        x = draw(*shape, self.D).bfloat16().requires_grad_()
        W = (draw(self.V, self.D) * 2 * self.D**-0.5).bfloat16().requires_grad_()
        target = torch.randint(self.V, (self.N,), generator=made, device=device)
        prior = None if self.K == 1 else draw(*shape).log_softmax(-1).requires_grad_()
        return x, W, target, prior


CASES = (
    Case("Gemma 2 2B", 8192, 2304, 256_000),
    Case("Llama 3 8B", 8192, 4096, 128_256),
    Case("Qwen 3.5 2B", 16_384, 2048, 248_320),
    Case("MoS, K 4", 2048, 1024, 50_304, 4),
    Case("MoS, K 15", 2048, 1024, 50_304, 15),
)


def shortest(runs: dict[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Milliseconds, after one round that warms up."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            wait(device)
            start = time.perf_counter()
            run()
            wait(device)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: min(own) for name, own in times.items()}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_speed(device: torch.device, size: int) -> float:
    """Bytes a millisecond that a copy reads and writes."""
    a = torch.empty(size, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / shortest({"copy": lambda: b.copy_(a)}, device)["copy"]


def ceilings(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """What the machine can do."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    yield {"what": f"{name}, torch {torch.__version__}"}
    speed = copy_speed(device, 2**16 if tiny else 2**30)
    yield {"what": "copy, TB/s", "value": speed / 1e9}
    n = 128 if tiny else 8192
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        ms = shortest({"mm": partial(torch.mm, a, b)}, device)["mm"]
        yield {"what": f"product, {dtype}, TFLOP/s", "value": 2 * n**3 / ms / 1e9}


def _products(case: Case, device: torch.device) -> tuple[Callable[[], None], int]:
    """The three products at our chunks, and the rows of a chunk."""
    x, W, _, _ = case.batch(device)
    x, W = x.detach(), W.detach()
    rows = case.K * chunk_tokens(x.view(case.N, case.K, -1), W, case.N, WHOLE, None)
    kind = kind_for(device, narrow=True)
    products = PRODUCTS[kind](W if kind == "tensor cores" else W.float())
    flat = products.operand(x.view(-1, case.D))
    z = torch.empty(rows, case.V, device=device)
    G = torch.zeros(rows, case.V, device=device, dtype=products.W.dtype)
    dX = torch.empty(len(flat), case.D, device=device)

    def run() -> None:
        dW = None
        for start in range(0, len(flat), rows):
            some = flat[start : start + rows]
            products.scores(some, None, z[: len(some)])
            products.to_input(G[: len(some)], out=dX[start : start + rows])
            dW = products.to_weight(dW, G[: len(some)], some)

    return run, rows


def losses(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Each case: F, ours, and what people run today."""
    speed = copy_speed(device, 2**16 if tiny else 2**28)
    for full in CASES:
        case = full.sized(tiny)
        products, rows = _products(case, device)
        floor = shortest({"products": products}, device)["products"]
        floor += BYTES * case.N * case.K * case.V / speed
        del products
        yield {"case": case.name, "who": "F", "ms": floor}
        for who, loss_of in _implementations(case).items():
            row: Row = {"case": case.name, "who": who}
            try:
                row |= _measured(case, loss_of, device, rows)
                row["x F"] = row["ms"] / floor
                if who == "wideneck" and not tiny:
                    row["limit"] = f"{LIMIT}: {'met' if row['x F'] <= LIMIT else 'MISSED'}"
            except Exception as error:  # a peer that does not run here says so in its row
                row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
            yield row


def _measured(case: Case, loss_of: Callable[..., Tensor], device: torch.device, rows: int) -> Row:
    x, W, target, prior = case.batch(device)
    leaves = [leaf for leaf in (x, W, prior) if leaf is not None]

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss_of(x, W, target, prior).backward()

    step()
    row: Row = {}
    if device.type == "cuda":
        for leaf in leaves:
            leaf.grad = None
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        row["peak GB"] = (torch.cuda.max_memory_allocated(device) - before) / 1e9
        row["chunk + dW GB"] = (BYTES * rows * case.V + 4 * case.V * case.D) / 1e9
    row["ms"] = shortest({"step": step}, device)["step"]
    return row


def _implementations(case: Case) -> dict[str, Callable[..., Tensor]]:
    def ours(x: Tensor, W: Tensor, target: Tensor, prior: Tensor | None) -> Tensor:
        return linear_cross_entropy(x, W, target, log_prior=prior)

    def naive(x: Tensor, W: Tensor, target: Tensor, prior: Tensor | None) -> Tensor:
        log_p = F.linear(x, W).float().log_softmax(-1)
        if prior is not None:
            log_p = (prior[..., None] + log_p).logsumexp(1)
        return F.nll_loss(log_p, target)

    found = {"wideneck": ours, "naive": naive, "naive, compiled": torch.compile(naive)}
    if case.K == 1:
        found |= {name: partial(_peer, name) for name in ("Liger", "CCE", "QuACK", "torch")}
    return found


def _peer(name: str, x: Tensor, W: Tensor, target: Tensor, prior: None) -> Tensor:
    if name == "torch":
        return F.linear_cross_entropy(x, W, target)
    if name == "Liger":
        module = import_module("liger_kernel.transformers.fused_linear_cross_entropy")
        return module.LigerFusedLinearCrossEntropyLoss()(W, x, target)
    if name == "CCE":
        return import_module("cut_cross_entropy").linear_cross_entropy(x, W, target)
    module = import_module("quack.linear_cross_entropy")
    return module.chunked_linear_cross_entropy(x, W, target)


def sweep(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Gemma's case by rows of a chunk, and each part of a chunk alone."""
    case = CASES[0].sized(tiny)
    x, W, target, _ = case.batch(device)
    for rows in (64,) if tiny else (1024, 2048, 2816, 3712, 4096, 5632, 8192):

        def step(rows: int = rows) -> None:
            x.grad = W.grad = None
            linear_cross_entropy(x, W, target, chunk_size=rows).backward()

        yield {"what": f"step, chunks of {rows}", "ms": shortest({"step": step}, device)["step"]}
    with torch.no_grad():
        yield from _parts(case, device, x, W, target, tiny=tiny)


def _parts(
    case: Case, device: torch.device, x: Tensor, W: Tensor, target: Tensor, *, tiny: bool
) -> Iterator[Row]:
    kind = kind_for(device, narrow=True)
    products = PRODUCTS[kind](W if kind == "tensor cores" else W.float())
    some = products.operand(x[:4096])
    z = torch.empty(len(some), case.V, device=device)
    products.scores(some, None, z)
    G = torch.empty_like(z, dtype=products.W.dtype)
    dW = products.to_weight(None, G.zero_(), some)
    at = target[: len(some), None]
    anchor = z.gather(1, at)
    speed = copy_speed(device, 2**16 if tiny else 2**28)
    runs: dict[str, Callable[[], object]] = {
        "scores": lambda: products.scores(some, None, z),
        "dX": lambda: products.to_input(G),
        "dW": lambda: products.to_weight(dW, G, some),
        "last cast of dW": lambda: torch.mul(dW, 1.0, out=torch.empty_like(W)),
    }
    times = shortest(runs, device)
    for name, ms in times.items():
        yield {"what": name, "ms": ms}
    for activation in ("softmax", "sigsoftmax"):
        form = affine(activation_config(activation), z.new_zeros(()))[2]
        keep = z.clone() if device.type == "cpu" else z  # a CPU's pass is in place

        def one_pass(form: Any = form, keep: Tensor = keep) -> None:
            _weigh(keep, form, anchor, at, G, None, sums=False)

        ms = shortest({"pass": one_pass}, device)["pass"]
        ideal = BYTES * z.numel() / speed
        yield {"what": f"pass, {activation}", "ms": ms, "share of a copy's speed": ideal / ms}
