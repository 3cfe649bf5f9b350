"""The whole reproduction: heads over seeds beside the papers', and a language of known rank."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import encode_corpus, read_corpus
from wideneck.data.config import Data
from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab.found import Found, made_now
from wideneck.lab.jobs import all_runs
from wideneck.lab.registry import Request
from wideneck.lab.sigsoftmax.known_rank.fit import Fit, known_rank
from wideneck.lab.sigsoftmax.one_run import Run, train_and_measure
from wideneck.lab.sigsoftmax.settings import (
    VOCABULARY,
    WIKITEXT2,
    Settings,
    data_of,
    paper,
    small,
    with_seed,
)
from wideneck.lab.spread import Paired, Spread, over_seeds, paired

SHARED = ("seed", "rank_bound", "num_contexts", "epochs", "tokens")
FIGURES = [
    field.name for field in fields(Run) if field.type in (int, float) and field.name not in SHARED
]
"""Every number of a run but those that are set before it."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One head over its seeds."""

    name: str = measure("the head")
    figures: dict[str, Spread] = measure("each figure of its runs")
    against_softmax: Paired | None = measure(
        "test loss minus that of the softmax, seed by seed, nats a token; none for the softmax"
    )


@dataclass(frozen=True, kw_only=True)
class Reproduction(Found):
    """What `wideneck reproduce sigsoftmax` finds."""

    settings: dict[str, Any] = measure("recipes and evaluation")
    data: str = measure("the text")
    counts: dict[str, int] = measure("tokens of each split, and words of the vocabulary")
    arms: list[Arm] = measure("each head over its seeds")
    runs: list[Run] = measure("each head with each seed")
    known_rank: list[Fit] = measure("the language whose true log-probabilities are known")


@dataclass(frozen=True, kw_only=True)
class KnownRank:
    """All fits of the known-rank language, kept as one finished run."""

    fits: list[Fit]


def reproduce(request: Request, progress: Progress) -> Reproduction:
    """Make the runs that the folder does not hold, and compare all.

    Raises:
        WideneckError: a text that is neither of the papers' at their scale, a folder of other
            settings, a run that fails.
    """
    scale = request.scale or "small"
    settings, counts = _settings(request)
    with Store.opened(request.folder(scale), settings.to_dict()) as store:
        jobs = {}
        for seed in range(request.num_seeds):
            for arm, recipe in settings.recipes.items():
                name = f"{_file(arm)}-seed{seed}"
                jobs[name] = partial(
                    train_and_measure,
                    arm,
                    seed,
                    with_seed(recipe, seed),
                    store.path / "runs" / name,
                    settings.num_contexts,
                    contexts_are_first=scale == "paper",
                )
        runs = all_runs(jobs, Run, store, progress)
        known = store.made(
            "known-rank",
            KnownRank,
            lambda: KnownRank(fits=known_rank(num_seeds=request.num_seeds, progress=progress)),
        )
    return reproduction(settings, counts, runs, known.fits)


def reproduction(
    settings: Settings, counts: dict[str, int], runs: Sequence[Run], fits: Sequence[Fit]
) -> Reproduction:
    """The comparison of finished runs, all arms with the same seeds."""
    by_arm = {name: [run for run in runs if run.arm == name] for name in settings.recipes}
    softmax = {run.seed: run.test_loss for run in by_arm["softmax"]}
    return Reproduction(
        settings=settings.to_dict(),
        data=settings.data,
        counts=counts,
        arms=[
            Arm(
                name=name,
                figures=over_seeds([{f: float(getattr(run, f)) for f in FIGURES} for run in some]),
                against_softmax=None
                if name == "softmax"
                else paired([run.test_loss - softmax[run.seed] for run in some]),
            )
            for name, some in by_arm.items()
        ],
        runs=list(runs),
        known_rank=list(fits),
        **made_now("sigsoftmax"),
    )


def _settings(request: Request) -> tuple[Settings, dict[str, int]]:
    """The settings of the scale, and the counts of its text."""
    text = request.text
    if text is None and request.scale == "paper":
        text = WIKITEXT2
    corpus = read_corpus(text)
    whole = encode_corpus(corpus, Data())
    splits = {"train": whole.train, "valid": whole.valid, "test": whole.test}
    counts = {name: len(split.ids) for name, split in splits.items() if split is not None}
    counts["vocab_size"] = whole.vocab_size
    known = data_of(counts)
    if request.scale != "paper":
        name = known or corpus.name
        settings = small(request.model, text, name, whole.vocab_size, counts["train"])
        return settings, counts | {"vocab_size": min(whole.vocab_size, VOCABULARY)}
    if request.model is not None:
        raise WideneckError("The paper's scale has its own models: leave out --model.")
    if known is None:
        raise WideneckError(
            f"{corpus.name} is neither Penn Treebank (82,430 test tokens, 10,000 words) nor "
            f"WikiText-2 (245,569 test tokens, 33,278 words): its test split has "
            f"{counts.get('test', 0):,} tokens and its vocabulary {whole.vocab_size:,} words. Give "
            "the folder of one of them by --text, or leave out --scale paper."
        )
    return paper(text, known), counts


def _file(arm: str) -> str:
    """A name that every file system takes."""
    return arm.lower().replace(" x ", "-").replace(", ", "-").replace(" ", "-")
