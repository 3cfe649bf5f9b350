"""The whole reproduction: heads over seeds beside the papers', and a language of known rank.

The paper's scale has its recipes for Penn Treebank and WikiText-2, told apart by the counts of the
text; the small scale has one recipe for an LSTM and one for a transformer, on any text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import encode_corpus, read_corpus
from wideneck.data.config import Data
from wideneck.errors import WideneckError
from wideneck.lab.found import Found, made_now
from wideneck.lab.jobs import Job, all_runs
from wideneck.lab.registry import Request
from wideneck.lab.sigsoftmax.arms import Arm, over_softmax
from wideneck.lab.sigsoftmax.known_rank.fit import Fit, known_rank
from wideneck.lab.sigsoftmax.one_run import Run, train_and_measure
from wideneck.lab.sigsoftmax.recipes import SCALES, data_of, recipes
from wideneck.registry import did_you_mean
from wideneck.training.recipe_file import recipe

WIKITEXT2 = "datasets:Salesforce/wikitext:wikitext-2-v1"


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
    chosen, counts = _settings(request, scale)
    with request.store(chosen) as store:
        jobs = {}
        for seed in range(request.num_seeds):
            for arm, given in chosen["recipes"].items():
                name = file_of(arm, seed)
                make = partial(
                    train_and_measure,
                    arm,
                    seed,
                    recipe(given | {"seed": given["seed"] + seed}),
                    store.path / "runs" / name,
                    chosen["num_contexts"],
                    contexts_are_first=scale == "paper",
                )
                jobs[name] = Job({"arm": arm, "seed": seed}, make)
        runs = all_runs(jobs, Run, store, progress)
        known = store.made(
            "known-rank",
            KnownRank,
            lambda: KnownRank(fits=known_rank(num_seeds=request.num_seeds, progress=progress)),
        )
    return reproduction(chosen, counts, runs, known.fits)


def file_of(arm: str, seed: int) -> str:
    """The name of a run, as every file system takes it."""
    return re.sub("( x|,)? ", "-", f"{arm.lower()}-seed{seed}")


def reproduction(
    chosen: dict[str, Any], counts: dict[str, int], runs: Sequence[Run], fits: Sequence[Fit]
) -> Reproduction:
    """The comparison of finished runs, all arms with the same seeds."""
    return Reproduction(
        settings=chosen,
        data=chosen["data"],
        counts=counts,
        arms=over_softmax(chosen["recipes"], runs),
        runs=list(runs),
        known_rank=list(fits),
        **made_now("sigsoftmax"),
    )


def _settings(request: Request, scale: str) -> tuple[dict[str, Any], dict[str, int]]:
    """All that runs in one table share, as JSON holds it, and the counts of the text."""
    models = list(SCALES["small"])
    model = models[0] if request.model is None else request.model
    if scale == "paper" and request.model is not None:
        raise WideneckError("The paper's scale has its own models: leave out --model.")
    if model not in models:
        raise WideneckError(
            f"At the small scale --model is one of {', '.join(models)}, got '{model}'."
            f"{did_you_mean(model, models)}"
        )
    text = WIKITEXT2 if scale == "paper" and request.text is None else request.text
    corpus = read_corpus(text)
    counts = encode_corpus(corpus, Data()).counts
    vocab_size = counts["vocab_size"]
    known = data_of(counts)
    if scale == "paper" and known is None:
        raise WideneckError(
            f"{corpus.name} is neither Penn Treebank (82,430 test tokens, 10,000 words) nor "
            f"WikiText-2 (245,569 test tokens, 33,278 words): its test split has "
            f"{counts.get('test', 0):,} tokens and its vocabulary {vocab_size:,} words. Give "
            "the folder of one of them by --text, or leave out --scale paper."
        )
    given = SCALES[scale][known if scale == "paper" else model]
    counts["vocab_size"] = min(vocab_size, given.get("vocab_size", vocab_size))
    chosen = {
        "paper": "sigsoftmax",
        "scale": scale,
        "data": known or corpus.name,
        "num_contexts": given["num_contexts"],
        "recipes": {arm: one.to_dict() for arm, one in recipes(given, text, counts).items()},
    }
    return chosen, counts
