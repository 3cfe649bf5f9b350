"""The whole reproduction: a family of models, heads of every rank, n-grams, and a scaling law."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import encode_corpus, read_corpus
from wideneck.data.config import Data
from wideneck.files.store import Store
from wideneck.lab.found import Found, made_now
from wideneck.lab.jobs import Job, all_runs
from wideneck.lab.registry import Request
from wideneck.lab.saturation.arms import Arm, head_arms
from wideneck.lab.saturation.family import FamilyRun, train_and_measure
from wideneck.lab.saturation.heads_run import HeadRun, train_head
from wideneck.lab.saturation.loss_table import read_losses
from wideneck.lab.saturation.ngrams import AllNgrams, Ngrams, all_ngrams
from wideneck.lab.saturation.scaling import Laws, given_laws, laws
from wideneck.lab.saturation.settings import Settings, settings
from wideneck.lab.saturation.truncated import Truncated, truncated
from wideneck.lab.saturation.verdicts import claims, compared
from wideneck.lab.saturation.widths import Width, loss_rows, summarize
from wideneck.lab.verdict import Comparison
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
    words = next(iter(chosen.family.values())).data
    corpus = read_corpus(words.text)
    encoded = encode_corpus(corpus, words)
    counts = {name: encoded.counts[name] for name in ("train", "valid", "vocab_size")}
    content = chosen.to_dict() | {"text_sha256": corpus.sha256}
    seeds = range(request.num_seeds)
    with request.store(content) as store:
        texts = [words, *(Data(text=words.text, tokens=name) for name in chosen.tokenizers)]
        count = partial(all_ngrams, corpus, texts, chosen.ngram_tokens, chosen.orders, progress)
        counted = store.made("ngrams", AllNgrams, count)
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
        made=lambda name: shutil.rmtree(place / name, ignore_errors=True),
    )
    return cut, found
