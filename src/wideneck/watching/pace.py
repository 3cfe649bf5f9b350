"""How often each group of quantities is measured: as asked, or more rarely where that is dear."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.distributed as dist


@final
class Pace:
    """Periods in steps, lengthened so that measuring takes no more than a share of the time.

    Each group may take its part of `limit`; a period is doubled until it does, and comes back when
    a later measurement is cheaper, as after the first, which warms up.  The first process decides.

    Args:
        periods: by group, in steps.
        limit: share of a step's time for all groups together; None never lengthens.
    """

    def __init__(self, periods: dict[str, int], limit: float | None):
        self.asked, self.periods, self.limit = dict(periods), dict(periods), limit
        self.costs = dict.fromkeys(periods, 0.0)
        """Seconds of the last measurement of each group."""
        self._spent = dict.fromkeys(periods, 0.0)
        self._step_seconds: float | None = None
        self._last: float | None = None
        self._pause = 0.0

    @property
    def share(self) -> float | None:
        """The part of a step's time that measuring takes; None before there is a second step."""
        if not self._step_seconds:
            return None
        each = (self.costs[name] / self.periods[name] for name in self.periods)
        return sum(each) / self._step_seconds

    def due(self, group: str, step: int) -> bool:
        """Whether a group is measured at this step: the first, and every multiple of the period."""
        return step == 1 or step % self.periods[group] == 0

    @contextmanager
    def timing(self, group: str, device: torch.device) -> Iterator[None]:
        """Counts what is done inside towards the group."""
        _finish(device)
        started = time.perf_counter()
        try:
            yield
        finally:
            _finish(device)
            spent = time.perf_counter() - started
            self._spent[group] += spent
            self._pause += spent

    def stepped(self, measured: list[str], device: torch.device) -> None:
        """After a step: what it took without us, and the periods that follow."""
        now = time.perf_counter()
        if self._last is not None:
            self._step_seconds = max(now - self._last - self._pause, 1e-9)
        self._last, self._pause = now, 0.0
        for name in measured:
            self.costs[name], self._spent[name] = self._spent[name], 0.0
        if measured and self.limit is not None:
            self._lengthen(device)

    def _lengthen(self, device: torch.device) -> None:
        assert self.limit is not None
        if self._step_seconds:
            for name, asked in self.asked.items():
                allowed = self.limit * self._step_seconds / len(self.asked)
                period = asked
                while self.costs[name] / period > allowed:
                    period *= 2
                self.periods[name] = period
        if dist.is_available() and dist.is_initialized():
            shared = torch.tensor(list(self.periods.values()), device=device)
            dist.broadcast(shared, 0)
            self.periods = dict(zip(self.periods, shared.tolist(), strict=True))


def _finish(device: torch.device) -> None:
    """Wait for what the accelerator has been given."""
    if device.type != "cpu":
        accelerator: Any = torch.accelerator
        accelerator.synchronize(device)
