"""The products of an output layer, a chunk of tokens at a time: scores, and what flows back.

Letters as in `fused`: N tokens, K components, D hidden, V vocabulary, R = rows of a chunk.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from wideneck.functional.distribution import widened
from wideneck.functional.options import Wanted
from wideneck.functional.shard import Shard

CHUNK_ROWS = 1024
"""Rows of a chunk at most: products are slower with many fewer, and no faster with more."""
ACCELERATOR_ROWS = 4096
"""The same where starting kernels takes time.  A step of an AWD-LSTM with 15 softmaxes on an H100,
V = 10,000: 23 to 37 ms with 1024 rows, 20 with 4096, 19 with 8192, and 20 with the plain loss."""
CHUNK_SCORES = 2**26
"""Scores of a chunk at most (256 MiB in float32), down to 256 rows."""


@final
class Scores:
    """The scores X W' + b of the tokens that count, in a workspace that every chunk overwrites.

    Args:
        X: (N, K, D).
        W: (V, D), or this process's rows of it.
        b: (V,) or None.
        kept: (N,), the tokens that count.
        shard: the part of the vocabulary that W holds.
        chunk_size: tokens at a time; None chooses.
    """

    def __init__(
        self,
        X: Tensor,
        W: Tensor,
        b: Tensor | None,
        kept: Tensor,
        shard: Shard,
        chunk_size: int | None,
    ):
        self.X, self.dtype = X, widened(X, W)
        self.b = None if b is None else b.to(self.dtype)
        self.kept = kept.nonzero().squeeze(1)
        self.whole = len(self.kept) == len(X)
        """Whether every token counts: chunks are then slices, and nothing is copied."""
        K, V, num_kept = X.shape[1], W.shape[0], len(self.kept)
        rows = CHUNK_ROWS if X.device.type == "cpu" else ACCELERATOR_ROWS
        most = min(rows, max(256, CHUNK_SCORES // (V if shard.is_whole else shard.largest)))
        size = max(1, most // K) if chunk_size is None else chunk_size
        num_chunks = max(1, -(-num_kept // size))
        # Even chunks: a short last one is a slow product.
        self.size = max(1, -(-num_kept // num_chunks))
        # Narrower weights are widened into the workspace, if they are no larger than the scores
        # may be.
        num_widened = W.numel() if W.dtype != self.dtype and W.numel() <= CHUNK_SCORES else 0
        space = workspace(num_widened + self.size * K * V, dtype=self.dtype, device=X.device)
        self.W = W.to(self.dtype) if not num_widened else space[:num_widened].view_as(W).copy_(W)
        self.space = space[num_widened:]

    def __iter__(self) -> Iterator[tuple[slice | Tensor, Tensor, Tensor]]:
        """The index of a chunk's tokens, its rows of X (R, D), and its scores (R, V)."""
        (_, K, D), V = self.X.shape, self.W.shape[0]
        for start in range(0, len(self.kept), self.size):
            end = min(start + self.size, len(self.kept))
            n = slice(start, end) if self.whole else self.kept[start:end]
            x = self.X[n].to(self.dtype).reshape(-1, D)
            z = self.space[: (end - start) * K * V].view(-1, V)
            if self.b is None:
                torch.mm(x, self.W.T, out=z)
            else:
                torch.addmm(self.b, x, self.W.T, out=z)
            yield n, x, z


@final
class Gradients:
    """Those that are wanted; of X, W and b from the gradients of the scores, chunk by chunk.

    `log_prior` and `parameters` are for the caller to fill.
    """

    def __init__(self, scores: Scores, wanted: Wanted, parameters: Sequence[Tensor]):
        self.scores, self.wants_weight = scores, wanted.weight
        X, W, dtype = scores.X, scores.W, scores.dtype
        self.input: Tensor | None = None
        if wanted.input:
            make = X.new_empty if scores.whole else X.new_zeros
            self.input = make(X.shape, dtype=dtype)
        self.weight: Tensor | None = None
        self.bias = W.new_zeros(W.shape[0]) if wanted.bias else None
        self.log_prior = X.new_zeros(X.shape[:2], dtype=dtype) if wanted.log_prior else None
        self.parameters = [torch.zeros_like(p) for p in parameters] if wanted.parameters else []

    def add(self, n: slice | Tensor, x: Tensor, z: Tensor, a: Tensor | None) -> None:
        """The part of a chunk whose scores have the gradient a z.

        Args:
            n: index of its tokens.
            x: (R, D).
            z: (R, V).
            a: (R,), on the narrow side, where it costs nothing; None for 1.
        """
        W, (_, K, D) = self.scores.W, self.scores.X.shape
        if self.input is not None and self.scores.whole:  # without a copy
            rows = self.input[n].view(-1, D)
            torch.mm(z, W, out=rows)
            if a is not None:
                rows.mul_(a[:, None])
        elif self.input is not None:
            rows = z @ W
            self.input[n] = (rows if a is None else rows.mul_(a[:, None])).view(-1, K, D)
        if self.wants_weight:
            ax = x if a is None else x * a[:, None]
            # The first product makes dW: a fresh matrix of zeros would cost a pass more.
            self.weight = z.T @ ax if self.weight is None else self.weight.addmm_(z.T, ax)
        if self.bias is not None:
            self.bias.addmv_(z.T, torch.ones_like(z[:, 0]) if a is None else a)

    def add_own(self, n: slice | Tensor, x: Tensor, at: Tensor, own: Tensor) -> None:
        """The part of one score in every row.

        Args:
            n: index of the chunk's tokens.
            x: (R, D).
            at: (R,), its row of W.
            own: (R,), its gradient.
        """
        if self.input is not None:
            _, K, D = self.scores.X.shape
            self.input[n] += (own[:, None] * self.scores.W[at]).view(-1, K, D)
        if self.weight is not None:
            self.weight.index_add_(0, at, own[:, None] * x)
        if self.bias is not None:
            self.bias.index_add_(0, at, own)

    def finish(self) -> list[Tensor | None]:
        """All of them, None where not wanted; zeros where there was no chunk."""
        if self.wants_weight and self.weight is None:
            self.weight = torch.zeros_like(self.scores.W)
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
