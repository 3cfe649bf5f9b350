"""All runs of a table: those that are missing, several at a time where the model is small."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from wideneck.audits.states import Progress
from wideneck.memory.ambiguous import read_analogies
from wideneck.papers.histalign.folder import RunFolder
from wideneck.papers.histalign.objectives import OBJECTIVES
from wideneck.papers.histalign.results import Run
from wideneck.papers.histalign.run import run
from wideneck.papers.histalign.settings import Settings
from wideneck.papers.side_by_side import Show, side_by_side


@final
@dataclass(frozen=True)
class Job:
    """What a process is given: the words by their file, which is shorter than they are."""

    settings: Settings
    words: Path | None
    objective: str
    seed: int


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
    jobs = [Job(settings, words, objective, seed) for seed in seeds for objective in OBJECTIVES]
    missing = [job for job in jobs if folder.finished(job.objective, job.seed) is None]
    stage = f"{len(missing)} of {len(jobs)} runs"
    for _, done in side_by_side(
        _work,
        missing,
        lambda units, total: progress(stage, units, total),
        processes=None if settings.model is None else 1,  # a loaded model fills a machine
    ):
        folder.write(done)
    finished = [folder.finished(job.objective, job.seed) for job in jobs]
    return [one for one in finished if one is not None]


def _work(job: Job, show: Show) -> Run:
    return run(job.settings, read_analogies(job.words), job.objective, job.seed, show)
