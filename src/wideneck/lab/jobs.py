"""From jobs to finished runs: those that the store does not hold are made, side by side."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from wideneck.audits.states import Progress
from wideneck.files.store import Store
from wideneck.lab.side_by_side import Show, side_by_side


class Job(Protocol):
    """A setting with a seed: all that a process needs to know."""

    @property
    def name(self) -> str:
        """Of its run in the store."""
        ...


AnyJob = TypeVar("AnyJob", bound=Job)
Run = TypeVar("Run")


def all_runs(
    work: Callable[[AnyJob, Show], Run],
    jobs: Sequence[AnyJob],
    kind: type[Run],
    store: Store,
    progress: Progress,
    *,
    stage: str = "{} of {} runs",
    processes: int | None = None,
    made: Callable[[AnyJob], None] = lambda job: None,
) -> list[Run]:
    """The run of every job, in the order of the jobs.

    Args:
        work: makes a run; as for `side_by_side`.
        jobs: seed by seed, as a rule, so that what an interrupted command leaves can be compared.
        kind: the dataclass of a run.
        store: where they are kept.
        progress: called as progress(stage, done, total).
        stage: what is done, given how many are missing, and of how many.
        processes: as for `side_by_side`.
        made: called for each job whose run was made and is in the store.

    Raises:
        WideneckError: as `work` and the store.
    """
    missing = [job for job in jobs if store.finished(job.name, kind) is None]
    words = stage.format(len(missing), len(jobs))

    def tick(done: int, total: int) -> None:
        progress(words, done, total)

    for job, run in side_by_side(work, missing, tick, processes=processes):
        store.write(job.name, run)
        made(job)
    return [run for job in jobs if (run := store.finished(job.name, kind)) is not None]
