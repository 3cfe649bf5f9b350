"""A task, and what its steps are given: rows of text, windows, or states of a frozen model.

Batch k of epoch e depends on the seed, e and k alone, so that a run goes on at any of them.  With
several processes each takes an even share of the rows.

Shapes: B rows, T tokens of a segment or a window.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck.errors import WideneckError
from wideneck.evaluation.streaming import Reading
from wideneck.models.small.language_model import LanguageModel
from wideneck.training.recipe import Schedule


@dataclass(frozen=True)
class Batch:
    """One step's input, target and place."""

    input: Tensor
    """Ids (B, T), or states (B, D)."""
    target: Tensor
    """Ids (B, T), or (B,)."""
    num_tokens: int
    """Predictions in it, of all processes."""
    fresh: bool = True
    """Whether the model starts from its initial state."""
    share: float = 1.0
    """Length over the usual length of a segment, which SGD's rate is multiplied by."""


@final
@dataclass(frozen=True)
class Order:
    """The batches of one epoch, by number."""

    drawn: Any
    """What the seed decides: the bounds of segments, the starts of windows, or rows by number."""
    length: int
    batch: Callable[[int], Batch]

    def __len__(self) -> int:
        return self.length


class Batches(ABC):
    """The batches of every epoch.

    Each kind takes the `seed` of its order, and the `share` of this process: its number, and how
    many there are.
    """

    tokens_per_epoch: int

    @abstractmethod
    def order(self, epoch: int) -> Order:
        """The batches of one epoch."""


@dataclass(frozen=True)
class Observation:
    """What else is measured on the way, on one process; it goes into the metrics."""

    steps: frozenset[int]
    """After which steps; 0 is before the first."""
    measure: Callable[[nn.Module], dict[str, Any]]
    """Reads the model and nothing random, so that a run observed trains like one that is not."""


@dataclass(frozen=True)
class Task:
    """Everything that the loop needs to know."""

    model: nn.Module
    """Called as model(input, target, state); returns a `Step` of wideneck.models.small."""
    batches: Batches
    valid: Sequence[Batch]
    about: dict[str, Any] = field(default_factory=dict)
    """What a checkpoint must agree in, such as the vocabulary's hash; goes into the result."""
    described: dict[str, Any] = field(default_factory=dict)
    """What the file of the weights says beside that."""
    test: Sequence[Batch] | None = None
    """What the best model is measured on at the end; None for nothing."""
    observe: Observation | None = None


@final
class Segments(Batches):
    """Rows of consecutive text (N,), read segment by segment with the state carried."""

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

    def order(self, epoch: int) -> Order:
        generator = _generator(self.seed, epoch)
        segment, predictions = self.schedule.segment, self.rows.shape[1] - 1
        starts, start = [], 0
        while start < predictions:
            starts.append(start)
            start += self._length(segment, generator) if self.schedule.varied else segment
        bounds = [*starts, predictions]
        return Order(bounds, len(starts), lambda index: self._batch(*bounds[index : index + 2]))

    def _batch(self, start: int, stop: int) -> Batch:
        return Batch(
            input=self.rows[:, start:stop].long(),
            target=self.rows[:, start + 1 : stop + 1].long(),
            num_tokens=self.schedule.batch_size * (stop - start),
            fresh=start == 0,
            share=(stop - start) / self.schedule.segment,
        )

    def _length(self, segment: int, generator: torch.Generator) -> int:
        usual = torch.rand((), generator=generator).item() < 0.95
        mean = segment if usual else segment / 2
        drawn = int(mean + 5 * torch.randn((), generator=generator).item())
        length = max(5, drawn)
        longest = self.schedule.longest
        return length if longest is None else min(length, segment + longest)


@final
class WindowBatches(Batches):
    """Windows of T = context predictions, in a new order and at a new phase in every epoch."""

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

    def order(self, epoch: int) -> Order:
        generator = _generator(self.seed, epoch)
        slack = len(self.ids) - 1 - self.num_windows * self.context
        phase = int(torch.randint(slack + 1, (), generator=generator))
        starts = phase + self.context * torch.randperm(self.num_windows, generator=generator)
        return Order(starts, self.num_batches, lambda index: self._batch(starts, index))

    def _batch(self, starts: Tensor, index: int) -> Batch:
        B, T = self.batch_size, self.context
        places = _share(starts[index * B : (index + 1) * B], self.share)[:, None]
        windows = self.ids[places + torch.arange(T + 1)].long()
        return Batch(input=windows[:, :-1], target=windows[:, 1:], num_tokens=B * T)


@final
class Rows(Batches):
    """Hidden states (N, D) and their targets (N,), for a head alone, in a new order every epoch.

    The order is of blocks of `BLOCK` neighbours, so that a memory-mapped file is read in pieces;
    a batch holds many blocks.
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

    def order(self, epoch: int) -> Order:
        N, block = len(self.target), self.BLOCK
        blocks = torch.randperm(-(-N // block), generator=_generator(self.seed, epoch))
        rows = (blocks[:, None] * block + torch.arange(block)).flatten()
        rows = rows[rows < N]
        return Order(rows, N // self.batch_size, lambda index: self._batch(rows, index))

    def _batch(self, rows: Tensor, index: int) -> Batch:
        B = self.batch_size
        rows = _share(rows[index * B : (index + 1) * B], self.share)
        return Batch(input=self.hidden[rows], target=self.target[rows].long(), num_tokens=B)


def text_in_order(
    model: LanguageModel, ids: Tensor, schedule: Schedule, batch_size: int
) -> list[Batch]:
    """A text (N,) as `wideneck.evaluation` reads it, for validation within the loop.

    The model says whether a state is carried, or how long its windows are; the schedule how many
    tokens are read at a time, and how much of the text.
    """
    reading = Reading.of(
        model,
        ids[: schedule.evaluation_tokens],
        batch_size=batch_size,
        segment=schedule.segment,
    )
    windowed = reading.context is not None
    return [
        Batch(input, target, target.numel(), fresh=windowed or number == 0)
        for number, (input, target) in enumerate(reading)
    ]


def rows_in_order(hidden: Tensor, target: Tensor, schedule: Schedule) -> list[Batch]:
    """Cached states (N, D) and targets (N,); views, read from the disk when they are used."""
    size, upto = schedule.evaluation_batch_size, schedule.evaluation_tokens
    pairs = zip(hidden[:upto].split(size), target[:upto].split(size), strict=True)
    return [Batch(x, y, y.numel()) for x, y in pairs]


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
