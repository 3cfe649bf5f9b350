"""The whole reproduction: a family of models, heads of every rank, n-grams, and a scaling law."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import Corpus, encode_corpus, read_corpus
from wideneck.data.config import Data
from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab.found import Found, made_now
from wideneck.lab.jobs import Job, all_runs
from wideneck.lab.published import ours
from wideneck.lab.registry import Request
from wideneck.lab.saturation.arms import Arm, head_arms
from wideneck.lab.saturation.family import FamilyRun, train_and_measure
from wideneck.lab.saturation.heads_run import HeadRun, train_head
from wideneck.lab.saturation.loss_table import read_losses
from wideneck.lab.saturation.ngrams import ORDERS, AllNgrams, Ngrams, ngram_dimensionality
from wideneck.lab.saturation.scaling import Laws, given_laws, laws
from wideneck.lab.saturation.truncated import Truncated, truncated
from wideneck.lab.saturation.verdicts import claims, compared
from wideneck.lab.saturation.widths import Width, loss_rows, summarize
from wideneck.lab.verdict import Comparison
from wideneck.models.small.config import States, Transformer
from wideneck.recipes import shipped
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe
from wideneck.training.recipe_file import read_recipe
from wideneck.training.states_task import recipe_states


@dataclass(frozen=True, kw_only=True)
class Reproduction(Found):
    """What `wideneck reproduce saturation` finds."""

    settings: dict[str, Any] = measure("recipes and what is measured")
    data: str = measure("the text")
    counts: dict[str, int] = measure("tokens of each split, and words of the vocabulary")
    widths: list[Width] = measure("the models of each width over seeds")
    family: list[FamilyRun] = measure("each model with its measurements")
    arms: list[Arm] = measure("heads of each rank over seeds")
    heads: list[HeadRun] = measure("each head with each seed")
    truncated: Truncated = measure("the output layer cut, and the audit's prediction")
    ngrams: list[Ngrams] = measure("n-gram dimensionality with the diagonal's null")
    laws: Laws = measure("scaling laws")
    compared: list[Comparison] = measure("published numbers beside ours")
    claims: list[Comparison] = measure("the paper's statements beside ours")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share to stand in one table; the seeds are not among it.

    Each number is explained where it stands, in lab/saturation.toml.
    """

    scale: str
    tokens: int
    linear: int
    train_tokens: int
    ranks: Sequence[int]
    starts: Sequence[str]
    ngram_tokens: int
    tokenizers: Sequence[str]
    orders: Sequence[int] = ORDERS
    family: dict[int, Recipe]
    """A recipe for each width; how many epochs its tokens are depends on the text."""
    heads: Recipe
    """From which `head_recipe` makes the others."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        family = {str(width): recipe.to_dict() for width, recipe in self.family.items()}
        heads = self.heads.to_dict()
        return {"paper": "saturation", **vars(self), "family": family, "heads": heads}


def settings(scale: str, model: str | None, text: str | None) -> Settings:
    """The small scale's settings, on any text, or the paper's, on a large text that is given.

    Args:
        scale: "small" or "paper".
        model: whose states the heads are trained on; None for the recipe's.
        text: as for `read_corpus`.

    Raises:
        WideneckError: the paper's scale without a text.
    """
    if scale == "paper" and text is None:
        raise WideneckError(
            "The paper's scale trains on a large text, which wideneck does not bring: give a file, "
            "a folder or datasets:NAME by --text, or leave out --scale paper."
        )
    given = ours("saturation", "scale")[scale]
    base, heads = (read_recipe(shipped(name), text=text) for name in given.pop("recipes"))
    assert isinstance(base.model, Transformer)
    assert isinstance(base.optimizer, AdamW)
    assert isinstance(heads.model, States)
    if model is not None:
        heads = replace(heads, model=replace(heads.model, model=model))
    names, family = given.pop("of_family"), {}
    for rate, *values in given.pop("family"):
        options = base.model.options | dict(zip(names, values, strict=True))
        family[options["hidden_size"]] = replace(
            base,
            model=replace(base.model, options=options),
            optimizer=replace(base.optimizer, learning_rate=rate),
        )
    return Settings(scale=scale, family=family, heads=heads, **given)


def reproduce(request: Request, progress: Progress) -> Reproduction:
    """Make the runs that the folder does not hold, and compare all.

    Raises:
        WideneckError: a table of losses that cannot be read or fitted, no text at the paper's
            scale, a text that is too short, a folder of other settings, a model whose states cannot
            be had, a run that fails.
    """
    chosen = settings(request.scale or "small", request.model, request.text)
    losses = request.own.get("losses")
    given = [] if losses is None else given_laws(read_losses(losses))
    data = next(iter(chosen.family.values())).data
    corpus = read_corpus(data.text)
    encoded = encode_corpus(corpus, data)
    counts = {name: len(getattr(encoded, name).ids) for name in ("train", "valid")}
    counts["vocab_size"] = encoded.vocab_size
    content = chosen.to_dict() | {"text_sha256": corpus.sha256}
    seeds = range(request.num_seeds)
    with Store.opened(request.folder(chosen.scale), content) as store:
        counted = store.made("ngrams", AllNgrams, lambda: _ngrams(chosen, corpus, data, progress))
        family = _family(chosen, seeds, store, progress)
        cut, heads = _heads(chosen, seeds, store, progress)
    widths, arms = summarize(family), head_arms(heads, cut)
    made = made_now("saturation")
    known = made["published"]
    law = laws(loss_rows(widths, family[0].tokens), given)
    return Reproduction(
        settings=content,
        data=corpus.name,
        counts=counts,
        widths=widths,
        family=family,
        arms=arms,
        heads=heads,
        truncated=cut,
        ngrams=counted.found,
        laws=law,
        compared=compared(known, counted.found, law),
        claims=claims(known, widths, arms, counted.found, family[0].tokens),
        **made,
    )


def _family(
    chosen: Settings, seeds: Sequence[int], store: Store, progress: Progress
) -> list[FamilyRun]:
    """Every model, several at a time; the largest of each seed first, so that none waits for it."""
    lengths = (chosen.tokens, chosen.linear, chosen.train_tokens)
    jobs = {}
    for seed, width in product(seeds, sorted(chosen.family, reverse=True)):
        name = f"family-d{width}-seed{seed}"
        place, recipe = store.path / "runs" / name, chosen.family[width]
        make = partial(train_and_measure, width, seed, recipe, *lengths, place)
        jobs[name] = Job({"width": width, "seed": seed}, make)
    return all_runs(jobs, FamilyRun, store, progress, stage="family: {} of {} models")


def _heads(
    chosen: Settings, seeds: Sequence[int], store: Store, progress: Progress
) -> tuple[Truncated, list[HeadRun]]:
    """Truncations, and every head, one after the other with all threads.

    A finished head's weights go: those of all ranks and seeds take gigabytes and nothing reads
    them again.
    """
    place = store.path / "runs"
    states = recipe_states(chosen.heads, place, progress)
    width = states.weight.shape[1]
    ranks = [*(rank for rank in chosen.ranks if rank < width), width]
    cut = store.made("truncated", Truncated, lambda: truncated(states, ranks, progress))
    arms = [*product(chosen.starts, ranks), ("own", width)]
    jobs = {}
    for seed, (start, rank) in product(seeds, arms):
        name = f"heads-{start}-r{rank}-seed{seed}"
        make = partial(train_head, rank, start, seed, chosen.heads, place / name)
        jobs[name] = Job({"rank": rank, "start": start, "seed": seed}, make)
    found = all_runs(
        jobs,
        HeadRun,
        store,
        progress,
        stage="heads: {} of {}",
        processes=1,
        made=lambda name: shutil.rmtree(place / name),
    )
    return cut, found


def _ngrams(chosen: Settings, corpus: Corpus, words: Data, progress: Progress) -> AllNgrams:
    """By the words of the family, and by the tokenizer of the default model or the one given."""
    found = []
    for data in (words, *(Data(text=words.text, tokens=name) for name in chosen.tokenizers)):
        encoded = encode_corpus(corpus, data)
        ids = encoded.train.ids[: chosen.ngram_tokens]
        found.append(
            Ngrams(
                tokens=data.tokens,
                vocab_size=encoded.vocab_size,
                num_tokens=len(ids),
                orders=ngram_dimensionality(ids, orders=chosen.orders, progress=progress),
            )
        )
    return AllNgrams(found=found)
