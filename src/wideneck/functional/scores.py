"""The products of an output layer, a chunk of tokens at a time: scores, and what flows back.

Letters as in `fused`: N tokens, K components, D hidden, V vocabulary, R = rows of a chunk.
"""

import threading
from collections.abc import Iterator, Sequence
from copy import copy
from typing import final

import torch
from torch import Tensor

from wideneck.functional.chunks import CHUNK_SCORES, chunk_tokens
from wideneck.functional.distribution import widened
from wideneck.functional.kept import Kept
from wideneck.functional.options import Wanted
from wideneck.functional.products import NARROW, PRODUCTS, TensorCores, kind_for
from wideneck.functional.shard import Shard


@final
class Scores:
    """The scores X W' + b of the tokens that count, in a workspace that every chunk overwrites.

    Args:
        X: (N, K, D).
        W: (V, D), or this process's rows of it.
        b: (V,) or None.
        kept: the tokens that count.
        shard: the part of the vocabulary that W holds.
        chunk_size: tokens at a time; None chooses.
        narrow: whether products of bfloat16 are asked for.
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
    ):
        self.X, self.dtype, self.kept = X, widened(X, W), kept
        self.b = None if b is None else b.to(self.dtype)
        make = PRODUCTS[kind_for(X.device, narrow=narrow)]
        self.size = chunk_tokens(X, W, kept.number, shard, chunk_size)
        K, V = X.shape[1], W.shape[0]
        W = W.to(NARROW) if make.narrow else W
        self.gradients: Tensor | None = None
        """Memory for G in bfloat16, where the scores' own is not its."""
        if make is TensorCores:
            self.space = workspace(self.size * K * V, dtype=self.dtype, device=X.device)
            self.gradients = torch.empty_like(self.space, dtype=NARROW)
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
        D, V = self.X.shape[-1], self.products.W.shape[0]
        for n in self.kept.chunks(self.size):
            x = self.X[n].reshape(-1, D)
            z = self.space[: len(x) * V].view(-1, V)
            self.products.scores(self.products.operand(x), self.b, z)
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
        self.input: Tensor | None = None
        if wanted.input:
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
            ax = products.operand(x if a is None else x * a[:, None])
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
            self.weight.index_add_(0, at, own[:, None] * x)
        if self.bias is not None:
            self.bias.index_add_(0, at, own)

    def finish(self) -> list[Tensor | None]:
        """All of them, None where not wanted; zeros where there was no chunk."""
        if self.wants_weight and self.weight is None:
            self.weight = torch.zeros_like(self.scores.products.W, dtype=self.scores.dtype)
        return [self.input, self.weight, self.bias, self.log_prior, *self.parameters]


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
