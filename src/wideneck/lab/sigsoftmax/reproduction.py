"""The whole reproduction: heads over seeds beside the papers', and a language of known rank."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from wideneck.lab.sigsoftmax.known_rank.fit import Fit
from wideneck.lab.sigsoftmax.known_rank.run import known_rank
from wideneck.lab.sigsoftmax.one_run import Job, Run, train_and_measure
from wideneck.lab.sigsoftmax.settings import (
    VOCABULARY,
    WIKITEXT2,
    Settings,
    data_of,
    paper,
    small,
    with_seed,
)
from wideneck.lab.spread import Paired, Spread, paired, spread

FIGURES = (
    "num_parameters",
    "valid_loss",
    "test_loss",
    "test_perplexity",
    "train_loss",
    "rank",
    "effective_1e3",
    "effective_1e4",
    "effective_1e5",
    "mean_logit",
    "sd_logit",
    "share_curved",
    "tokens_per_second",
    "seconds",
)


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
    text = request.text
    if text is None and scale == "paper":
        text = WIKITEXT2
    settings, counts = _settings(request, scale, text)
    with Store.opened(request.folder(scale), settings.to_dict()) as store:
        jobs = [
            Job(
                arm=arm,
                seed=seed,
                recipe=with_seed(recipe, seed),
                folder=store.path / "runs" / f"{_file(arm)}-seed{seed}",
                num_contexts=settings.num_contexts,
                contexts_are_first=scale == "paper",
            )
            for seed in range(request.num_seeds)
            for arm, recipe in settings.recipes.items()
        ]
        runs = all_runs(train_and_measure, jobs, Run, store, progress)
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
                figures={
                    figure: spread([float(getattr(run, figure)) for run in some])
                    for figure in FIGURES
                },
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


def _settings(request: Request, scale: str, text: str | None) -> tuple[Settings, dict[str, int]]:
    """Of a scale, and the counts of its text."""
    corpus = read_corpus(text)
    whole = encode_corpus(corpus, Data())
    counts = {"train": len(whole.train.ids), "valid": len(whole.valid.ids)}
    if whole.test is not None:
        counts["test"] = len(whole.test.ids)
    known = data_of(counts | {"vocab_size": whole.vocab_size})
    if scale == "small":
        name = known or corpus.name
        settings = small(request.model, text, name, whole.vocab_size, len(whole.train.ids))
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
    return paper(text, known), counts | {"vocab_size": whole.vocab_size}


def _file(arm: str) -> str:
    """A name that every file system takes."""
    return arm.lower().replace(" x ", "-").replace(", ", "-").replace(" ", "-")
