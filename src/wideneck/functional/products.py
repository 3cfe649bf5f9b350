"""The three products of an output layer, in the arithmetic that they run in.

Letters as in `fused`: scores Z = X W', and of G, what the pass makes of Z, dX = G W and dW += G' X.

- `Wide` multiplies in the dtype of the computation, at least float32.
- `TensorCores` multiplies bfloat16 and sums in float32, where an accelerator has such units.  W and
  X have cost their precision already, so nothing but G is rounded.
- `Rounded` gives the numbers of the second on any device, up to the order of its sums, by rounding
  to bfloat16 what it multiplies in float32: it is its specification.  A CPU with units for bfloat16
  runs it on them, which changes no product, as bfloat16 numbers have exact float32 products: while
  no other thread of Python runs, as the way to them is a setting of the whole process.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, final

import torch
from torch import Tensor

from wideneck.functional.autocast import autocasts

Kind = Literal["wide", "tensor cores", "rounded"]
ACCELERATORS = ("cuda", "xpu")
NARROW = torch.bfloat16
"""What the products that are not wide multiply.  float16 is not among it: its range does not hold
the gradients of a row that is anchored at its target."""
UNSET = "none"
"""The precision of float32 products where nobody has chosen one."""
PAD = 8
"""Columns of the narrowest product that tensor cores take."""


def asks_for_narrow(input: Tensor, weight: Tensor) -> bool:
    """Whether bfloat16 products are what the caller has asked for.

    Both came as bfloat16; or on an accelerator autocast to it is on, as with the Trainer's
    `bf16=True`, where the obvious code would round both.  Autocast of a CPU does not count: there
    float32 products of float32 weights take no longer.
    """
    if input.dtype == weight.dtype == NARROW:
        return True
    device = input.device.type
    return (
        device in ACCELERATORS
        and autocasts(device)
        and torch.get_autocast_dtype(device) == NARROW
        and {input.dtype, weight.dtype} <= {NARROW, torch.float32}
    )


def kind_for(device: torch.device, *, narrow: bool) -> Kind:
    """The products of a device, `narrow` where bfloat16 is asked for."""
    if narrow and device.type in ACCELERATORS:
        old = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
        return "wide" if old else "tensor cores"
    return "rounded" if narrow and device.type == "cpu" and _cpu_has_units() else "wide"


def _cpu_has_units() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class Wide:
    """All in the dtype of W."""

    narrow = False
    """Whether what is multiplied is rounded to `NARROW`."""

    def __init__(self, W: Tensor):
        self.W = W

    def operand(self, x: Tensor) -> Tensor:
        """A factor in the dtype that is multiplied."""
        return x.to(self.W.dtype)

    def scores(self, x: Tensor, b: Tensor | None, out: Tensor, scale: Tensor | None = None) -> None:
        """Scale X W' + b (R, V), of operands x (R, D) and b (V,) of the dtype of `out`."""
        x = x if scale is None else x * scale
        if b is None:
            torch.mm(x, self.W.T, out=out)
        else:
            torch.addmm(b, x, self.W.T, out=out)

    def to_input(self, G: Tensor, out: Tensor | None = None) -> Tensor:
        """G W (R, D)."""
        return torch.mm(G, self.W, out=out)

    def to_weight(self, total: Tensor | None, G: Tensor, ax: Tensor) -> Tensor:
        """`total` (V, D) and G' ax, of an operand ax (R, D); in place where there is a total."""
        # The first product makes dW: a fresh matrix of zeros would cost a pass more.
        return G.T @ ax if total is None else total.addmm_(G.T, ax)

    def to_bias(self, total: Tensor, G: Tensor, a: Tensor | None) -> None:
        """Adds G' a to `total` (V,); a (R,) is 1 where None."""
        total.addmv_(G.T, torch.ones_like(G[:, 0]) if a is None else a)


@final
class Rounded(Wide):
    """Float32 tensors that hold bfloat16 numbers; G must hold such numbers, too."""

    narrow = True

    def __init__(self, W: Tensor):
        super().__init__(W)
        self.on_units = W.device.type == "cpu" and _cpu_has_units()

    def operand(self, x: Tensor) -> Tensor:
        return x.to(NARROW).to(self.W.dtype)

    def scores(self, x: Tensor, b: Tensor | None, out: Tensor, scale: Tensor | None = None) -> None:
        with _units(self.on_units):
            if scale is None:
                super().scores(x, b, out)
            else:  # of the sums: x times a scale is no bfloat16 number
                given = (out if b is None else b, x, self.W.T)
                torch.addmm(*given, beta=b is not None, alpha=scale.item(), out=out)

    def to_input(self, G: Tensor, out: Tensor | None = None) -> Tensor:
        with _units(self.on_units):
            return super().to_input(G, out)

    def to_weight(self, total: Tensor | None, G: Tensor, ax: Tensor) -> Tensor:
        with _units(self.on_units):
            return super().to_weight(total, G, ax)


@contextmanager
def _units(on: bool) -> Iterator[None]:
    """Inside, oneDNN rounds the factors of float32 products to bfloat16: here they are already.

    The setting is the process's.  So it stays no longer than a product takes, is left alone where
    somebody has chosen one, as what is read may be inherited, and where another thread runs, whose
    float32 products would be rounded.
    """
    matmul = torch.backends.mkldnn.matmul  # pyrefly: ignore[missing-attribute]
    if not on or matmul.fp32_precision != UNSET or threading.active_count() > 1:
        yield
        return
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = UNSET


@final
class TensorCores(Wide):
    """Bfloat16 tensors, of which float32 comes out."""

    narrow = True

    def scores(self, x: Tensor, b: Tensor | None, out: Tensor, scale: Tensor | None = None) -> None:
        assert scale is None, "the pass has it"
        if b is None:
            torch.mm(x, self.W.T, out_dtype=out.dtype, out=out)
        else:
            torch.addmm(b, x, self.W.T, out_dtype=out.dtype, out=out)

    def to_input(self, G: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            return torch.mm(G, self.W, out_dtype=torch.float32)
        return torch.mm(G, self.W, out_dtype=out.dtype, out=out)

    def to_weight(self, total: Tensor | None, G: Tensor, ax: Tensor) -> Tensor:
        if total is None:
            return torch.mm(G.T, ax, out_dtype=torch.float32)
        return torch.addmm(total, G.T, ax, out_dtype=total.dtype, out=total)

    def to_bias(self, total: Tensor, G: Tensor, a: Tensor | None) -> None:
        columns = [torch.ones_like(G[:, 0])] if a is None else _in_parts(a)
        padded = torch.nn.functional.pad(torch.stack(columns, 1), (0, PAD - len(columns)))
        total.add_(torch.mm(G.T, padded, out_dtype=total.dtype).sum(1))


def _in_parts(a: Tensor) -> list[Tensor]:
    """Float32 numbers as sums of bfloat16 ones: 3 times 8 bits."""
    parts = []
    for _ in range(3):
        parts.append(a.to(NARROW))
        a = a - parts[-1]
    return parts


PRODUCTS: dict[Kind, type[Wide]] = {"wide": Wide, "rounded": Rounded, "tensor cores": TensorCores}
