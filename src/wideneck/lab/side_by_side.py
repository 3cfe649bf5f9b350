"""Many small runs: several at a time where one leaves cores idle.

A small model leaves a second core idle, so each run has one thread and a process of its own; one
thread also where there is a single run left, so that it finds what it would have found among
others.  On an accelerator, or where one process is asked for, they come one after the other with
all threads.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch

from wideneck.errors import WideneckError

PROCESSES = 4
"""At most; each holds torch and transformers, half a gigabyte."""
UNITS = 1000
"""Of progress in one run."""
POLL = 0.5

Show = Callable[[float], None]
"""Called as show(share of the run that is done)."""


def side_by_side(
    work: Callable[[Any, Show], Any],
    jobs: Sequence[Any],
    tick: Callable[[int, int], None],
    *,
    processes: int | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Each job and its result, as they are done.

    Args:
        work: a function of a module, called as work(job, show); in other processes it has one
            thread.
        jobs: what can be pickled.
        tick: told of the units of progress that are done, and of all.
        processes: None for one a core, or one where there is an accelerator.

    Raises:
        WideneckError: a process died.
    """
    threads = torch.get_num_threads()
    if processes is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        if accelerator is not None:
            processes = 1
        else:
            processes, threads = min(PROCESSES, cores()), 1

    def told(units: int) -> None:
        tick(units, UNITS * len(jobs))

    if min(processes, len(jobs)) > 1:
        yield from _in_processes(work, jobs, min(processes, len(jobs)), told)
    else:
        yield from _in_turn(work, jobs, threads, told)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_turn(
    work: Callable[[Any, Show], Any],
    jobs: Sequence[Any],
    threads: int,
    tick: Callable[[int], None],
) -> Iterator[tuple[Any, Any]]:
    for number, job in enumerate(jobs):

        def show(share: float, before: int = UNITS * number) -> None:
            tick(before + int(UNITS * share))

        with _threads(threads):
            result = work(job, show)
        show(1.0)
        yield job, result


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Inside, torch has so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_processes(
    work: Callable[[Any, Show], Any],
    jobs: Sequence[Any],
    processes: int,
    tick: Callable[[int], None],
) -> Iterator[tuple[Any, Any]]:
    # A fork would take torch's threads with it in whatever state they are.
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    count = context.Value("q", 0)
    pool = ProcessPoolExecutor(processes, context, _begin, (count,))
    try:
        waiting: dict[Future, Any] = {pool.submit(_work, work, job): job for job in jobs}
        while waiting:
            done, _ = wait(waiting, POLL, FIRST_COMPLETED)
            tick(count.value)
            for future in done:
                yield waiting.pop(future), future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise WideneckError(
            "A run ended without a result, most likely for want of memory; the finished ones are "
            "kept, so run the same command again."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()


_count: Any = None


def _begin(count: Any) -> None:
    """In a new process."""
    global _count
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _count = count


def _end_with_parent() -> None:
    """A parent that was killed cannot end this process, which would keep its run's lock."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Callable[[Any, Show], Any], job: Any) -> Any:
    shown = 0

    def show(share: float) -> None:
        nonlocal shown
        more = int(UNITS * share) - shown
        if more:
            shown += more
            with _count.get_lock():
                _count.value += more

    result = work(job, show)
    show(1.0)
    return result
