"""Every attention normalizer on an accelerator: its route beside SDPA and beside the dense way.

Forward and backward pass in bfloat16, causal.  Errors are of the output, the norm of the difference
over the norm, to the dense formula in float32 on a part of the heads.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.gpu_loss import shortest
from wideneck.attention import build, names
from wideneck.attention.forward import attention_forward

Row = dict[str, Any]
SHAPE, TINY = (4, 32, 4096, 128), (1, 2, 256, 16)
"""Batch, heads, length, width."""
LIMITS = {"sdpa": 1.1, "flex": 2.0}
"""Times SDPA, by route."""
SPLASH = 1 / 3
"""Times the dense way, of adasplash."""
FEW = 2
"""Heads whose errors are taken: float32 scores of all would not fit."""


def attention(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Milliseconds by route, times SDPA and times dense, and the error."""
    made = torch.Generator(device).manual_seed(0)
    shape = TINY if tiny else SHAPE
    given = [torch.randn(shape, generator=made, device=device).bfloat16() for _ in range(3)]
    given = [leaf.requires_grad_() for leaf in given]
    upstream = torch.randn(shape, generator=made, device=device).bfloat16()

    def step(attend: Callable[..., Tensor]) -> None:
        for leaf in given:
            leaf.grad = None
        attend(*given).backward(upstream)

    plain = partial(F.scaled_dot_product_attention, is_causal=True)
    sdpa = shortest({"sdpa": partial(step, plain)}, device)["sdpa"]
    yield {"normalizer": "softmax", "route": "F.scaled_dot_product_attention", "ms": sdpa}
    for name in names():
        if name == "asentmax":  # which looks at a layer's hidden states, and here is no layer
            continue
        row: Row = {"normalizer": name}
        try:
            row |= _measured(name, given, step, sdpa, device, tiny=tiny)
        except Exception as error:  # a route that does not run here says so in its row
            row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        yield row


def _measured(
    name: str,
    given: list[Tensor],
    step: Callable[[Callable[..., Tensor]], None],
    sdpa: float,
    device: torch.device,
    *,
    tiny: bool,
) -> Row:
    under, dense = (_layer(name, given[0].shape[1], device, kernel) for kernel in ("auto", "dense"))
    out = _attend(under, *given)
    route = under.normalizer.route
    times = shortest({"own": partial(step, partial(_attend, under))}, device)
    row: Row = {"route": route.name, "ms": times["own"], "x SDPA": times["own"] / sdpa}
    if route.name != "dense":
        own = shortest({"dense": partial(step, partial(_attend, dense))}, device)["dense"]
        row["x dense"] = times["own"] / own
    some = [leaf.detach()[:1, :FEW].float() for leaf in given]
    with torch.no_grad():
        exact = _attend(_layer(name, some[0].shape[1], device, "dense"), *some)
    row["error"] = float((out[:1, :FEW].detach().float() - exact).norm() / exact.norm())
    limit = LIMITS.get(route.name)
    if not tiny and limit is not None:
        row["limit"] = f"{limit}: {'met' if row['x SDPA'] <= limit else 'MISSED'}"
    if not tiny and route.name == "adasplash":
        row["limit"] = f"dense / 3: {'met' if row['x dense'] <= SPLASH else 'MISSED'}"
    return row


def _layer(name: str, num_heads: int, device: torch.device, kernel: str) -> Any:
    module: Any = nn.Module()
    module.normalizer = build(name, num_heads=num_heads).to(device)
    module.normalizer.kernel = kernel
    module.is_causal = True
    return module


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attention_forward(module, query, key, value, None)[0].transpose(1, 2)
