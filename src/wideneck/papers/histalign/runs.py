"""All runs of a table: those that are missing, several at a time where the model is small.

A small model leaves a second core idle, so each run has one thread and a process of its own.
A loaded model has all threads, or the accelerator, for one run after the other.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.memory.ambiguous import read_analogies
from wideneck.papers.histalign.folder import RunFolder
from wideneck.papers.histalign.objectives import OBJECTIVES
from wideneck.papers.histalign.results import Run
from wideneck.papers.histalign.run import run
from wideneck.papers.histalign.settings import Settings

PROCESSES = 4
"""At most; each holds torch and transformers, half a gigabyte."""
UNITS = 1000
"""Of progress in one run."""
POLL = 0.5

Job = tuple[str, int]
"""Objective and seed."""


def all_runs(
    settings: Settings,
    words: Path | None,
    seeds: Sequence[int],
    folder: RunFolder,
    progress: Progress,
) -> list[Run]:
    """Every objective with every seed, read from the folder or made and written there.

    Seed by seed, so that what an interrupted run leaves can be compared.
    """
    jobs = [(objective, seed) for seed in seeds for objective in OBJECTIVES]
    missing = [job for job in jobs if folder.finished(*job) is None]
    processes = min(PROCESSES, _cores(), len(missing)) if settings.model is None else 1
    make = _in_turn if processes <= 1 else _side_by_side
    stage = f"{len(missing)} of {len(jobs)} runs"
    total = UNITS * len(missing)
    for done in make(
        settings, words, missing, processes, lambda units: progress(stage, units, total)
    ):
        folder.write(done)
    finished = [folder.finished(*job) for job in jobs]
    return [one for one in finished if one is not None]


def _in_turn(
    settings: Settings,
    words: Path | None,
    jobs: Sequence[Job],
    processes: int,
    tick: Callable[[int], None],
) -> Iterator[Run]:
    analogies = read_analogies(words)
    for number, (objective, seed) in enumerate(jobs):

        def show(share: float, before: int = UNITS * number) -> None:
            tick(before + int(UNITS * share))

        with _threads(1 if settings.model is None else torch.get_num_threads()):
            done = run(settings, analogies, objective, seed, show)
        yield done


def _side_by_side(
    settings: Settings,
    words: Path | None,
    jobs: Sequence[Job],
    processes: int,
    tick: Callable[[int], None],
) -> Iterator[Run]:
    # A fork would take torch's threads with it in whatever state they are.  What a new process is
    # given must fit a pipe's buffer (not the analogies), or the start hangs if that process dies.
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    count = context.Value("q", 0)
    pool = ProcessPoolExecutor(processes, context, _begin, (count, settings, words))
    try:
        waiting = {pool.submit(_work, job) for job in jobs}
        while waiting:
            done, waiting = wait(waiting, POLL, FIRST_COMPLETED)
            tick(count.value)
            for future in done:
                yield future.result()
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


_worker: dict[str, Any] = {}


def _begin(count: Any, settings: Settings, words: Path | None) -> None:
    """In a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits ends this one
    torch.set_num_threads(1)
    _worker.update(count=count, settings=settings, analogies=read_analogies(words))


def _work(job: Job) -> Run:
    shown = 0

    def show(share: float) -> None:
        nonlocal shown
        more = int(UNITS * share) - shown
        if more:
            shown += more
            with _worker["count"].get_lock():
                _worker["count"].value += more

    return run(_worker["settings"], _worker["analogies"], *job, show)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Inside, torch has so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
