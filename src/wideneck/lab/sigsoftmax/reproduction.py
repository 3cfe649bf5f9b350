"""The whole reproduction: heads over seeds beside the papers', and a language of known rank.

The paper's scale has its recipes for Penn Treebank and WikiText-2, told apart by the counts of the
text; the small scale has one recipe for an LSTM and one for a transformer, on any text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.config import head_config
from wideneck.data import encode_corpus, read_corpus
from wideneck.data.config import Data
from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab.found import Found, made_now
from wideneck.lab.jobs import Job, all_runs
from wideneck.lab.published import ours
from wideneck.lab.registry import Request
from wideneck.lab.sigsoftmax.known_rank.fit import Fit, known_rank
from wideneck.lab.sigsoftmax.matched import MATCHED, matched
from wideneck.lab.sigsoftmax.one_run import Run, train_and_measure
from wideneck.lab.spread import Paired, Spread, over_seeds, paired
from wideneck.recipes import shipped
from wideneck.registry import did_you_mean
from wideneck.training.recipe import Recipe
from wideneck.training.recipe_file import read_recipe, recipe

SCALES = ours("sigsoftmax", "scale")
"""Scale -> model or text -> what is run; and the heads and mixtures by the names of their arms."""
WIKITEXT2 = "datasets:Salesforce/wikitext:wikitext-2-v1"
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
    chosen, counts = _settings(request, scale)
    with Store.opened(request.folder(scale), chosen) as store:
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
    by_arm = {name: [run for run in runs if run.arm == name] for name in chosen["recipes"]}
    softmax = {run.seed: run.test_loss for run in by_arm["softmax"]}
    return Reproduction(
        settings=chosen,
        data=chosen["data"],
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
    whole = encode_corpus(corpus, Data())
    splits = {"train": whole.train, "valid": whole.valid, "test": whole.test}
    counts = {name: len(split.ids) for name, split in splits.items() if split is not None}
    counts["vocab_size"] = whole.vocab_size
    known = data_of(counts)
    if scale == "paper" and known is None:
        raise WideneckError(
            f"{corpus.name} is neither Penn Treebank (82,430 test tokens, 10,000 words) nor "
            f"WikiText-2 (245,569 test tokens, 33,278 words): its test split has "
            f"{counts.get('test', 0):,} tokens and its vocabulary {whole.vocab_size:,} words. Give "
            "the folder of one of them by --text, or leave out --scale paper."
        )
    given = SCALES[scale][known if scale == "paper" else model]
    counts["vocab_size"] = min(whole.vocab_size, given.get("vocab_size", whole.vocab_size))
    chosen = {
        "paper": "sigsoftmax",
        "scale": scale,
        "data": known or corpus.name,
        "num_contexts": given["num_contexts"],
        "recipes": {arm: one.to_dict() for arm, one in recipes(given, text, counts).items()},
    }
    return chosen, counts


def data_of(counts: dict[str, int]) -> str | None:
    """Which of the paper's texts has these counts, "PTB" or "WikiText-2"; None for neither."""
    for name, given in SCALES["paper"].items():
        base = read_recipe(shipped(given["recipes"]["heads"]))
        if base.data.expect.items() <= counts.items():
            return name
    return None


def recipes(given: dict[str, Any], text: str | None, counts: dict[str, int]) -> dict[str, Recipe]:
    """Those of every head with one output matrix, of every mixture, and of their control.

    Args:
        given: what `SCALES` has of a model or a text.
        text: as for `read_corpus`.
        counts: of tokens for training, and of words that are kept.
    """
    found = {}
    for group, file in given["recipes"].items():
        base = read_recipe(shipped(file), text=text)
        if "tokens" in given:
            epochs = round(given["tokens"] / counts["train"], 4)
            schedule = replace(base.training, epochs=epochs, evaluate_every=epochs)
            base = replace(base, training=schedule)
        for arm, head in SCALES[group].items():
            own = given["own"].get(group, {}) | given["own"].get(arm, {})
            found[arm] = replace(base, head=head_config(head, **own))
    return found | {MATCHED: matched(found["MoS"], counts["vocab_size"])}
