"""The products of an output layer, a chunk of tokens at a time: scores, and what flows back.

Letters as in `fused`: N tokens, K components, D hidden, V vocabulary, R = rows of a chunk.

A scale of all scores is no matter of a factor that is rounded: x times it would have to be rounded
again, by as much as the scores themselves where a bfloat16 layer rounds them.  So it is on the
float32 side of the products, of the scores and of what flows back.
"""

import threading
from collections.abc import Iterator, Sequence
from copy import copy
from typing import NamedTuple, final

import torch
from torch import Tensor

from wideneck.functional.chunks import CHUNK_SCORES, chunk_tokens
from wideneck.functional.distribution import widened
from wideneck.functional.kept import Kept
from wideneck.functional.options import Wanted
from wideneck.functional.products import NARROW, PRODUCTS, TensorCores, kind_for
from wideneck.functional.shard import Shard


@final
class Rest(NamedTuple):
    """Scale z + b, of products z."""

    scale: Tensor
    """(1, 1)."""
    bias: Tensor | None
    """(1, V)."""

    def do_(self, z: Tensor) -> None:
        """In place, one pass over z (R, V)."""
        if self.bias is None:
            z.mul_(self.scale)
        else:
            torch.addcmul(self.bias, z, self.scale, out=z)

    def of(self, z: Tensor, at: Tensor) -> Tensor:
        """That of one product in every row: z (R, 1), at (R,)."""
        return z * self.scale if self.bias is None else z * self.scale + self.bias[0, at, None]


@final
class Scores:
    """Scores scale X W' + b of the tokens that count, in a workspace that every chunk overwrites.

    Args:
        X: (N, K, D).
        W: (V, D), or this process's rows of it.
        b: (V,) or None; the scale is in it.
        kept: the tokens that count.
        shard: the part of the vocabulary that W holds.
        chunk_size: tokens at a time; None chooses.
        narrow: whether products of bfloat16 are asked for.
        scale: (), factor of all products; None for 1.
    """

    def __init__(
        self,
        X: Tensor,
        W: Tensor,
        b: Tensor | None,
        kept: Kept,
        shard: Shard,
        chunk_size: int | None,
        *,
        narrow: bool = False,
        scale: Tensor | None = None,
    ):
        self.scale = scale
        self.X, self.dtype, self.kept = X, widened(X, W), kept
        self.b = None if b is None else b.to(self.dtype)
        make = PRODUCTS[kind_for(X.device, narrow=narrow)]
        self.size = chunk_tokens(X, W, kept.number, shard, chunk_size)
        K, V = X.shape[1], W.shape[0]
        W = W.to(NARROW) if make.narrow else W
        self.gradients: Tensor | None = None
        """Memory for G in bfloat16, where the scores' own is not its."""
        self.rest: Rest | None = None
        """What the products leave to do, where no factor of theirs may wait for the device."""
        if make is TensorCores:
            self.space = workspace(self.size * K * V, dtype=self.dtype, device=X.device)
            self.gradients = torch.empty_like(self.space, dtype=NARROW)
            if scale is not None:
                row = None if self.b is None else self.b.view(1, -1)
                self.rest = Rest(scale.to(self.dtype).view(1, 1), row)
        else:
            # Narrower weights are widened into the workspace, if they are no larger than the scores
            # may be.
            fits = W.dtype != self.dtype and W.numel() <= CHUNK_SCORES
            num_widened = W.numel() if fits else 0
            space = workspace(num_widened + self.size * K * V, dtype=self.dtype, device=X.device)
            W = W.to(self.dtype) if not fits else space[:num_widened].view_as(W).copy_(W)
            self.space = space[num_widened:]
        self.products = make(W)

    def __iter__(self) -> Iterator[tuple[slice | Tensor, Tensor, Tensor]]:
        """The index of a chunk's tokens, its rows of X (R, D), and its scores (R, V)."""
        return self.chunks(done=True)

    def chunks(self, *, done: bool) -> Iterator[tuple[slice | Tensor, Tensor, Tensor]]:
        """The same; where not `done`, the scores still want what `rest` does."""
        D, V = self.X.shape[-1], self.products.W.shape[0]
        for n in self.kept.chunks(self.size):
            x = self.X[n].reshape(-1, D)
            z = self.space[: len(x) * V].view(-1, V)
            if self.rest is None:
                self.products.scores(self.products.operand(x), self.b, z, self.scale)
            else:
                self.products.scores(self.products.operand(x), None, z)
                if done:
                    self.rest.do_(z)
            yield n, x, z

    def of(self, kept: Kept) -> "Scores":
        """Those of other tokens, in the same memory and with the same W."""
        scores = copy(self)
        scores.kept = kept
        return scores

    def room_for_gradient(self, z: Tensor) -> Tensor:
        """Memory of the shape of a chunk's scores for G, which may be theirs."""
        return z if self.gradients is None else self.gradients[: z.numel()].view_as(z)

    def as_factor(self, z: Tensor) -> Tensor:
        """What became of a chunk's scores, as the products take it; z is used up."""
        if self.gradients is not None:
            return self.room_for_gradient(z).copy_(z)
        return z.copy_(z.to(NARROW)) if self.products.narrow else z


@final
class Gradients:
    """Those that are wanted; of X, W and b from the gradients of the scores, chunk by chunk.

    `log_prior` and `parameters` are for the caller to fill.
    """

    def __init__(self, scores: Scores, wanted: Wanted, parameters: Sequence[Tensor]):
        self.scores, self.wants_weight = scores, wanted.weight
        X, W, dtype = scores.X, scores.products.W, scores.dtype
        self.wants_input, self.wants_scale = wanted.input, wanted.scale
        self.scale_waits = False
        """Whether the gradient of W still wants the scale, which no row's factor took along."""
        self.input: Tensor | None = None
        """That of scale X."""
        if wanted.input or wanted.scale:
            make = X.new_empty if scores.kept.all else X.new_zeros
            self.input = make(X.shape, dtype=dtype)
        self.weight: Tensor | None = None
        self.bias = X.new_zeros(W.shape[0], dtype=dtype) if wanted.bias else None
        self.log_prior = X.new_zeros(X.shape[:2], dtype=dtype) if wanted.log_prior else None
        self.parameters = [torch.zeros_like(p) for p in parameters] if wanted.parameters else []

    def add(self, n: slice | Tensor, x: Tensor, z: Tensor, a: Tensor | None) -> None:
        """The part of a chunk whose scores have the gradient a z.

        Args:
            n: index of its tokens.
            x: (R, D).
            z: (R, V), of bfloat16 numbers where the products are of those.
            a: (R,), on the narrow side, where it costs nothing; None for 1.
        """
        products, (_, K, D) = self.scores.products, self.scores.X.shape
        if self.input is not None and isinstance(n, slice):  # without a copy
            rows = products.to_input(z, out=self.input[n].view(-1, D))
            if a is not None:
                rows.mul_(a[:, None])
        elif self.input is not None:
            rows = products.to_input(z)
            self.input[n] = (rows if a is None else rows.mul_(a[:, None])).view(-1, K, D)
        if self.wants_weight:
            self.scale_waits = a is None and self.scores.scale is not None
            ax = products.operand(x if a is None else x * self._scaled(a)[:, None])
            self.weight = products.to_weight(self.weight, z, ax)
        if self.bias is not None:
            products.to_bias(self.bias, z, a)

    def add_own(self, n: slice | Tensor, x: Tensor, at: Tensor, own: Tensor) -> None:
        """The part of one score in every row, in the dtype of the computation.

        Args:
            n: index of the chunk's tokens.
            x: (R, D).
            at: (R,), its row of W.
            own: (R,), its gradient.
        """
        if self.input is not None:
            _, K, D = self.scores.X.shape
            self.input[n] += (own[:, None] * self.scores.products.W[at]).view(-1, K, D)
        if self.weight is not None:
            own_x = (own if self.scale_waits else self._scaled(own))[:, None] * x
            self.weight.index_add_(0, at, own_x)
        if self.bias is not None:
            self.bias.index_add_(0, at, own)

    def finish(self) -> list[Tensor | None]:
        """All of them, None where not wanted; zeros where there was no chunk."""
        if self.wants_weight and self.weight is None:
            self.weight = torch.zeros_like(self.scores.products.W, dtype=self.scores.dtype)
        by_scale, scale = None, self.scores.scale
        if self.input is not None and scale is not None:
            n = slice(None) if self.scores.kept.all else self.scores.kept.index  # others may be NaN
            if self.wants_scale:
                by_scale = (self.input[n] * self.scores.X[n]).sum()
            self.input.mul_(scale)
        if self.weight is not None and scale is not None and self.scale_waits:
            self.weight.mul_(scale)
        by_input = self.input if self.wants_input else None
        return [by_input, self.weight, self.bias, self.log_prior, by_scale, *self.parameters]

    def _scaled(self, rows: Tensor) -> Tensor:
        """Factors of rows (R,) times the scale, which there costs nothing."""
        return rows if self.scores.scale is None else rows * self.scores.scale


_kept = threading.local()


def workspace(size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialized vector of at least `size` numbers, valid until the thread's next call.

    On a CPU it is one buffer for each thread, kept between calls: the operating system clears fresh
    pages on first touch, which for 256 MiB takes as long as a tenth of the loss.  Accelerators have
    a caching allocator of their own and get a plain tensor.
    """
    if device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    held = getattr(_kept, "buffer", None)
    if held is None or held.dtype != dtype or held.numel() < size:
        _kept.buffer = None  # before the new one is made, not after
        with torch.inference_mode(False):  # a tensor made in that mode could not be trained on
            held = _kept.buffer = torch.empty(size, dtype=dtype, device=device)
    return held


def release_workspace() -> None:
    """Gives the calling thread's buffer back to the system."""
    _kept.buffer = None
