"""Children that are forked from a process which has imported everything, each within limits.

3 GB bounds the private memory that a child may ask for (RLIMIT_DATA: heap, anonymous maps and
private writable maps of files), whether it touches it or not.  The address space is not bounded:
a file that is mapped and never read costs nothing, and a user's machine would let it be.
"""

import importlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

MEMORY = 3 * 2**30
"""Bytes of private memory."""
SECONDS = 30.0
"""On the clock; then the child is killed."""
WORKERS = 2
"""Children at a time."""
WRITTEN = 2**30
"""Bytes of a file that it writes."""


@dataclass(frozen=True)
class Job:
    """A function to call in a child, and where."""

    name: str
    work: Callable[[], object]
    folder: Path
    """The child's working directory."""
    stdout: Path
    stderr: Path
    stdin: int | None = None
    """A file descriptor; None for an empty input."""
    seconds: float = SECONDS


@dataclass(frozen=True)
class Ended:
    """How a child came to its end."""

    job: Job
    code: int
    """Exit code; minus the signal that ended it."""
    killed: bool
    """Whether its time was up."""
    seconds: float
    cpu: float
    """Seconds of user and system."""
    peak: int
    """Bytes resident at most, what it shares with its parent included."""


def run_all(jobs: Iterable[Job], workers: int = WORKERS) -> Iterator[Ended]:
    """Each job in a child, `workers` at a time, in the order in which they end."""
    running: dict[int, tuple[Job, int, float]] = {}
    waiting = iter(jobs)
    poll = select.poll()
    while True:
        for job in islice(waiting, workers - len(running)):
            pid = _forked(job)
            handle = os.pidfd_open(pid)
            poll.register(handle, select.POLLIN)
            running[handle] = (job, pid, time.monotonic())
        if not running:
            return
        first = min(start + job.seconds for job, _, start in running.values())
        poll.poll(max(0.0, first - time.monotonic()) * 1000 + 1)
        for handle, (job, pid, start) in list(running.items()):
            seconds = time.monotonic() - start
            killed = seconds > job.seconds
            if killed:
                _kill(pid)
            done, status, usage = os.wait4(pid, 0 if killed else os.WNOHANG)
            if not done:
                continue
            _kill(pid)  # what it has started
            poll.unregister(handle)
            os.close(handle)
            del running[handle]
            cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
            yield Ended(job, os.waitstatus_to_exitcode(status), killed, seconds, cpu, peak)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _forked(job: Job) -> int:
    pid = os.fork()
    if not pid:
        _end(job)
    if job.stdin is not None:
        os.close(job.stdin)
    with suppress(OSError):
        os.setpgid(pid, pid)  # both do it: neither must come first
    return pid


def _end(job: Job) -> NoReturn:
    """What the child does; it never returns into its parent's code."""
    code = 70
    try:
        os.setpgid(0, 0)
        code = _as_a_process(job)
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _as_a_process(job: Job) -> int:
    """The end of Python's own main loop, by hand."""
    os.chdir(job.folder)
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    given = os.open(os.devnull, os.O_RDONLY) if job.stdin is None else job.stdin
    for number, fd in enumerate((given, os.open(job.stdout, new), os.open(job.stderr, new))):
        os.dup2(fd, number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    code = 0
    try:
        job.work()
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def listing(work: Callable[[], object], path: Path, beside: Path | None = None) -> Callable:
    """The work, which then tells what it has imported from outside the folder `beside`."""

    def listing() -> None:
        try:
            work()
        finally:
            path.write_text("\n".join(name for name in list(sys.modules) if outside(name)))

    def outside(name: str) -> bool:
        if beside is None:
            return True
        file = getattr(sys.modules[name], "__file__", None)
        return file is not None and not Path(file).is_relative_to(beside)

    return listing


def import_listed(path: Path) -> None:
    """Import what a child has imported."""
    for name in path.read_text().split("\n"):
        with suppress(Exception):  # made by another module, under a name of its own
            importlib.import_module(name)
