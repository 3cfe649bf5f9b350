"""Every head of every width on every language over seeds, some minutes on two cores."""

from collections.abc import Sequence
from typing import NamedTuple

from wideneck.audits.states import Progress
from wideneck.lab.side_by_side import Show, side_by_side
from wideneck.lab.sigsoftmax.known_rank.contenders import CONTENDERS
from wideneck.lab.sigsoftmax.known_rank.fit import NUM_STEPS, Fit, fit
from wideneck.lab.sigsoftmax.known_rank.language import LANGUAGES

WIDTHS = (2, 4, 8, 16)
STAGE = "language of known rank"


class Job(NamedTuple):
    """One fit."""

    language: str
    head: str
    width: int
    seed: int
    num_steps: int


def known_rank(
    *,
    num_seeds: int,
    progress: Progress,
    languages: Sequence[str] = tuple(LANGUAGES),
    heads: Sequence[str] = tuple(CONTENDERS),
    widths: Sequence[int] = WIDTHS,
    num_steps: int = NUM_STEPS,
) -> list[Fit]:
    """Fit all.

    Args:
        num_seeds: seeds 0, 1, ...
        progress: called as progress(stage, done, total).
        languages: names of `LANGUAGES`.
        heads: names of `CONTENDERS`.
        widths: hidden sizes.
        num_steps: of each fit.

    Returns:
        By language, head, width and seed, in the order given.
    """
    jobs = [
        Job(language, head, width, seed, num_steps)
        for language in languages
        for head in heads
        for width in widths
        for seed in range(num_seeds)
    ]
    found = dict(side_by_side(_work, jobs, lambda units, total: progress(STAGE, units, total)))
    return [found[job] for job in jobs]


def _work(job: Job, show: Show) -> Fit:
    return fit(
        LANGUAGES[job.language](),
        job.head,
        job.width,
        job.seed,
        num_steps=job.num_steps,
        show=show,
    )
