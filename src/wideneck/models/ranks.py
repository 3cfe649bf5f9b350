"""Processes that share the windows of a text, as torchrun starts them.

Every rank runs the same code and takes its share of the work; then all have all results, in the
order of the work and not of the ranks, so that whatever is made of them is the same on each and for
any number of them.  Results and mistakes go over gloo, which needs no device.  A mistake on one
rank is raised on all, so that none waits for another that is gone.
"""

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from wideneck.errors import WideneckError
from wideneck.files.boundary import out_of_memory, reason

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""How long a rank waits for the others: one of them may replace heads for hours.  torchrun ends
all where one is gone."""


class Ranks:
    """This process and those beside it; alone by itself.

    Args:
        rank: number of this process.
        world: how many there are.
        local_rank: its number on its machine.
    """

    def __init__(self, rank: int = 0, world: int = 1, local_rank: int = 0):
        self.rank, self.world, self.local_rank = rank, world, local_rank
        self._ended = False

    def in_order(
        self, count: int, work: Callable[[int], T], what: str = "windows of text"
    ) -> Iterator[T]:
        """work(0), work(1), ..., each done by one rank; lazily where this one is alone.

        Raises:
            WideneckError: there are more ranks than pieces of work, called `what`.
            Exception: what any rank's work raised, on every rank.
        """
        if self.world == 1:
            yield from map(work, range(count))
            return
        if self.world > count:
            raise WideneckError(
                f"{self.world} processes are more than the {what} that they share ({count}): start "
                "fewer, or give a longer text or more tokens."
            )
        mine: list[T] = []
        failed: Exception | None = None
        try:
            mine = [work(i) for i in range(self.rank, count, self.world)]
        except Exception as error:
            failed = error
        parts = self._exchanged(mine, failed)
        for i in range(count):
            yield parts[i % self.world][i // self.world]

    def agree(self, what: str, value: Any) -> None:
        """Refuse ranks that would not do the same.

        Raises:
            WideneckError: they have different values.
        """
        if self.world == 1:
            return
        values = self._exchanged(value)
        other = next((rank for rank, one in enumerate(values) if one != values[0]), None)
        if other is not None:
            raise WideneckError(
                f"The processes do not agree on {what}: process 0 has {values[0]}, process {other} "
                f"{values[other]}; start all of them alike."
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, a WideneckError of one rank ends them all, and none ends before the others."""
        if self.world == 1:
            yield
            return
        failed: WideneckError | None = None
        try:
            yield
        except WideneckError as error:
            failed = error
        if not self._ended:
            self._exchanged(None, failed, last=True)
        if failed is not None:
            raise failed

    def _exchanged(
        self, value: Any, failed: Exception | None = None, *, last: bool = False
    ) -> list[Any]:
        """The values of all ranks, or the mistake of the first that made one."""
        import torch.distributed as dist

        found: list[Any] = [None] * self.world
        try:
            dist.all_gather_object(found, (value, _sendable(failed), last))
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            self._ended = True
            raise WideneckError(
                "A process that shares the work is gone, and nothing is written: what it said last "
                "is why; start all of them again."
            ) from error
        for _, error, ended in found:
            if error is not None:
                self._ended = ended
                # What a rank ends with is not a measure that is left out.
                raise WideneckError(str(error)) if ended else error
        return [value for value, _, _ in found]


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun has started, which all have the same arguments; or this one alone.

    Raises:
        WideneckError: they have not, or one of them has made a mistake; on the first rank.
        SystemExit: the same on the others, which say nothing.
    """
    started = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    world = int(os.environ["WORLD_SIZE"]) if started else 1
    if started:  # read at the first product; without it the last bit may differ between processes
        os.environ.setdefault("MKL_CBWR", "AUTO")
    if world == 1:
        yield ALONE
        return
    import torch.distributed as dist

    ranks = Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise WideneckError(
            f"The {world} processes that RANK and WORLD_SIZE tell of do not meet "
            f"({reason(error)}): start them by torchrun."
        ) from error
    try:
        with ranks.together():
            ranks.agree("their arguments", " ".join(sys.argv[1:]))
            yield ranks
    except WideneckError:
        if ranks.rank == 0:
            raise
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()


def _sendable(error: Exception | None) -> Exception | None:
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # of a library whose exceptions take more than a message
        return RuntimeError(f"{type(error).__name__}: {error}")
