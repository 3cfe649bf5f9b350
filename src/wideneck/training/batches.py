"""What a step is given: rows of consecutive text, windows, or states of a frozen model.

Batch k of epoch e depends on the seed, e and k alone, so that a run goes on at any of them.  With
several processes each takes an even share of the rows.

Shapes: B rows, T tokens of a segment or a window.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.training.schedule import Schedule


@dataclass(frozen=True)
class Batch:
    """One step's input, target and place."""

    input: Tensor
    """Ids (B, T), or states (B, D)."""
    target: Tensor
    """Ids (B, T), or (B,)."""
    fresh: bool
    """Whether the model starts from its initial state."""
    share: float
    """Length over the usual length of a segment, which SGD's rate is multiplied by."""
    num_tokens: int
    """Predictions in it, of all processes."""


class Batches(ABC):
    """The batches of every epoch."""

    tokens_per_epoch: int

    @abstractmethod
    def order(self, epoch: int) -> "Order":
        """The batches of one epoch."""


class Order(ABC):
    """The batches of one epoch, by number."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, index: int) -> Batch: ...


@final
class Segments(Batches):
    """Rows of consecutive text, read segment by segment with the state carried.

    Args:
        ids: (N,) token ids.
        schedule: batch size and segments.
        seed: of the lengths of segments.
        share: this process's number, and how many there are.
    """

    def __init__(self, ids: Tensor, schedule: Schedule, seed: int, share: tuple[int, int] = (0, 1)):
        rank, world = share
        B = schedule.batch_size
        _check_share(B, world)
        length = len(ids) // B
        if length < 2:
            raise WideneckError(
                f"The training text has {len(ids):,} tokens, too few for {B} rows of it; give a "
                "longer text or a smaller batch_size."
            )
        rows = ids[: B * length].view(B, length)
        self.rows = rows[rank * B // world : (rank + 1) * B // world]
        self.schedule, self.seed = schedule, seed
        self.tokens_per_epoch = B * (length - 1)

    def order(self, epoch: int) -> "SegmentOrder":
        generator = _generator(self.seed, epoch)
        segment, predictions = self.schedule.segment, self.rows.shape[1] - 1
        starts, start = [], 0
        while start < predictions:
            starts.append(start)
            start += self._length(segment, generator) if self.schedule.varied else segment
        return SegmentOrder(self, [*starts, predictions])

    def _length(self, segment: int, generator: torch.Generator) -> int:
        usual = torch.rand((), generator=generator).item() < 0.95
        mean = segment if usual else segment / 2
        drawn = int(mean + 5 * torch.randn((), generator=generator).item())
        length = max(5, drawn)
        longest = self.schedule.longest
        return length if longest is None else min(length, segment + longest)


@final
@dataclass(frozen=True)
class SegmentOrder(Order):
    """Segments from each bound to the next."""

    batches: Segments
    bounds: list[int]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def batch(self, index: int) -> Batch:
        start, stop = self.bounds[index], self.bounds[index + 1]
        rows, schedule = self.batches.rows, self.batches.schedule
        return Batch(
            input=rows[:, start:stop].long(),
            target=rows[:, start + 1 : stop + 1].long(),
            fresh=index == 0,
            share=(stop - start) / schedule.segment,
            num_tokens=schedule.batch_size * (stop - start),
        )


@final
class WindowBatches(Batches):
    """Windows of T predictions, in a new order and cut at a new phase in every epoch.

    Args:
        ids: (N,) token ids.
        context: T.
        schedule: batch size.
        seed: of the order.
        share: this process's number, and how many there are.
    """

    def __init__(
        self,
        ids: Tensor,
        context: int,
        schedule: Schedule,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ):
        _check_share(schedule.batch_size, share[1])
        self.ids, self.context, self.seed = ids, context, seed
        self.batch_size, self.share = schedule.batch_size, share
        # One window fewer than fit: room for the phase.
        self.num_windows = max(1, (len(ids) - 1) // context - 1)
        self.num_batches = self.num_windows // self.batch_size
        if self.num_batches < 1 or len(ids) <= context:
            raise WideneckError(
                f"The training text has {len(ids):,} tokens, too few for {self.batch_size} windows "
                f"of {context}; give a longer text or a smaller batch_size."
            )
        self.tokens_per_epoch = self.num_batches * self.batch_size * context

    def order(self, epoch: int) -> "WindowOrder":
        generator = _generator(self.seed, epoch)
        slack = len(self.ids) - 1 - self.num_windows * self.context
        phase = int(torch.randint(slack + 1, (), generator=generator))
        starts = phase + self.context * torch.randperm(self.num_windows, generator=generator)
        return WindowOrder(self, starts)


@final
@dataclass(frozen=True)
class WindowOrder(Order):
    """Windows by their starts."""

    batches: WindowBatches
    starts: Tensor

    def __len__(self) -> int:
        return self.batches.num_batches

    def batch(self, index: int) -> Batch:
        B, T = self.batches.batch_size, self.batches.context
        starts = _share(self.starts[index * B : (index + 1) * B], self.batches.share)
        places = starts[:, None] + torch.arange(T + 1)
        windows = self.batches.ids[places].long()
        return Batch(
            input=windows[:, :-1],
            target=windows[:, 1:],
            fresh=True,
            share=1.0,
            num_tokens=B * T,
        )


@final
class Rows(Batches):
    """Hidden states and their targets, for a head alone, in a new order in every epoch.

    The order is of blocks of `BLOCK` neighbours, so that a memory-mapped file is read in pieces;
    a batch holds many blocks.

    Args:
        hidden: (N, D), may be memory-mapped.
        target: (N,).
        schedule: batch size, in tokens.
        seed: of the order.
        share: this process's number, and how many there are.
    """

    BLOCK = 16

    def __init__(
        self,
        hidden: Tensor,
        target: Tensor,
        schedule: Schedule,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ):
        B = schedule.batch_size
        _check_share(B, share[1])
        if len(target) < B:
            raise WideneckError(
                f"There are {len(target):,} cached states, fewer than one batch of {B:,}; cache "
                "more tokens or give a smaller batch_size."
            )
        self.hidden, self.target, self.seed, self.share = hidden, target, seed, share
        self.batch_size = B
        self.tokens_per_epoch = len(target) // B * B

    def order(self, epoch: int) -> "RowOrder":
        N, block = len(self.target), self.BLOCK
        blocks = torch.randperm(-(-N // block), generator=_generator(self.seed, epoch))
        rows = (blocks[:, None] * block + torch.arange(block)).flatten()
        return RowOrder(self, rows[rows < N])


@final
@dataclass(frozen=True)
class RowOrder(Order):
    """Rows by number."""

    batches: Rows
    rows: Tensor

    def __len__(self) -> int:
        return self.batches.tokens_per_epoch // self.batches.batch_size

    def batch(self, index: int) -> Batch:
        B = self.batches.batch_size
        rows = _share(self.rows[index * B : (index + 1) * B], self.batches.share)
        return Batch(
            input=self.batches.hidden[rows],
            target=self.batches.target[rows].long(),
            fresh=True,
            share=1.0,
            num_tokens=B,
        )


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Its own for every epoch, so that an epoch needs no earlier one."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def _share(rows: Tensor, share: tuple[int, int]) -> Tensor:
    rank, world = share
    return rows[rank * len(rows) // world : (rank + 1) * len(rows) // world]


def _check_share(batch_size: int, world: int) -> None:
    if batch_size % world:
        raise WideneckError(
            f"A batch of {batch_size} rows cannot be shared evenly by {world} processes; make "
            f"batch_size a multiple of {world}."
        )
