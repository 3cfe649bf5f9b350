"""From jobs to finished runs: those that the store does not hold are made, several at a time.

A small model leaves a second core idle, so each run has one thread and a process of its own; one
thread also where there is a single run left, so that it finds what it would have found among
others.  On an accelerator, or where one process is asked for, they come one after the other with
all threads.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.files.store import Store

PROCESSES = 4
"""At most; each holds torch and transformers, half a gigabyte."""
UNITS = 1000
"""Steps in which the progress of one run is told."""
POLL = 0.5

Show = Callable[[float], None]
"""Called as show(share of the run that is done)."""
Name = TypeVar("Name")
Run = TypeVar("Run")
Make = Callable[[Show], Run]
"""Makes a run; where it goes to another process it can be pickled, as a `partial` can."""


@dataclass(frozen=True)
class Job(Generic[Run]):
    """A run that is wanted."""

    of: Mapping[str, Any]
    """The fields that tell it from the other runs."""
    make: Make[Run]


def all_runs(
    jobs: Mapping[str, Job[Run]],
    kind: type[Run],
    store: Store,
    progress: Progress,
    *,
    stage: str = "{} of {} runs",
    processes: int | None = None,
    made: Callable[[str], None] = lambda name: None,
) -> list[Run]:
    """The run of every job, in the order of the jobs.

    Args:
        jobs: by the name of their run in the store; seed by seed, as a rule, so that what an
            interrupted command leaves can be compared.
        kind: the dataclass of a run.
        store: where they are kept.
        progress: called as progress(stage, done, total).
        stage: what is done, given how many are missing, and of how many.
        processes: as for `side_by_side`.
        made: called with the name of each run that is in the store, as soon as it is.

    Raises:
        WideneckError: as the jobs and the store.
    """
    missing = {
        name: job.make for name, job in jobs.items() if store.finished(name, kind, **job.of) is None
    }
    for name in jobs:
        if name not in missing:
            made(name)
    tick = partial(progress, stage.format(len(missing), len(jobs)))
    for name, run in side_by_side(missing, tick, processes=processes):
        store.write(name, run)
        made(name)
    return [
        run
        for name, job in jobs.items()
        if (run := store.finished(name, kind, **job.of)) is not None
    ]


def side_by_side(
    jobs: Mapping[Name, Make[Run]],
    tick: Callable[[int, int], None],
    *,
    processes: int | None = None,
) -> Iterator[tuple[Name, Run]]:
    """Each job's name and its result, as they are done.

    Args:
        jobs: by name; in other processes each has one thread.
        tick: told of the units of progress that are done, and of all.
        processes: None for one a core, or one where there is an accelerator.

    Raises:
        WideneckError: a process died.
    """
    threads = torch.get_num_threads()
    if processes is None:
        if torch.accelerator.current_accelerator(check_available=True) is not None:
            processes = 1
        else:
            processes, threads = min(PROCESSES, cores()), 1
    processes = min(processes, len(jobs))

    def told(units: int) -> None:
        tick(units, UNITS * len(jobs))

    if processes > 1:
        yield from _in_processes(jobs, processes, told)
    else:
        yield from _in_turn(jobs, threads, told)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_turn(
    jobs: Mapping[Name, Make[Run]], threads: int, tick: Callable[[int], None]
) -> Iterator[tuple[Name, Run]]:
    before = torch.get_num_threads()
    for number, (name, job) in enumerate(jobs.items()):

        def show(share: float, done: int = UNITS * number) -> None:
            tick(done + int(UNITS * share))

        torch.set_num_threads(threads)
        try:
            run = job(show)
        finally:
            torch.set_num_threads(before)
        show(1.0)
        yield name, run


def _in_processes(
    jobs: Mapping[Name, Make[Run]], processes: int, tick: Callable[[int], None]
) -> Iterator[tuple[Name, Run]]:
    # A fork would take torch's threads with it in whatever state they are.
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    count = context.Value("q", 0)
    pool = ProcessPoolExecutor(processes, context, _begin, (count,))
    try:
        waiting: dict[Future[Run], Name] = {
            pool.submit(_work, job): name for name, job in jobs.items()
        }
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


def _work(job: Make[Run]) -> Run:
    shown = 0

    def show(share: float) -> None:
        nonlocal shown
        more = int(UNITS * share) - shown
        if more:
            shown += more
            with _count.get_lock():
                _count.value += more

    run = job(show)
    show(1.0)
    return run
