"""The whole reproduction: a family of models, heads of every rank, n-grams, and a scaling law."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import encode_corpus, read_corpus
from wideneck.files.store import Store
from wideneck.lab.found import Found, made_now
from wideneck.lab.jobs import all_runs
from wideneck.lab.registry import Request
from wideneck.lab.saturation.arms import Arm, head_arms
from wideneck.lab.saturation.family_run import (
    FamilyJob,
    FamilyRun,
    checkpoint_steps,
    train_and_measure,
)
from wideneck.lab.saturation.heads_run import HeadJob, HeadRun, train_head
from wideneck.lab.saturation.laws import Laws, given_laws, laws
from wideneck.lab.saturation.loss_table import read_losses
from wideneck.lab.saturation.ngram_run import AllNgrams, Ngrams, all_ngrams
from wideneck.lab.saturation.settings import Settings, head_recipe, paper, small, with_rate
from wideneck.lab.saturation.truncated import Truncated, truncated
from wideneck.lab.saturation.verdicts import claims, compared
from wideneck.lab.saturation.widths import Width, loss_rows, summarize
from wideneck.lab.verdict import Comparison
from wideneck.models.small.config import Transformer
from wideneck.training.batches import WindowBatches
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
    scale = request.scale or "small"
    settings = (small if scale == "small" else paper)(request.model, request.text)
    return reproduction(settings, request, progress)


def reproduction(settings: Settings, request: Request, progress: Progress) -> Reproduction:
    """The same of settings."""
    losses = request.own.get("losses")
    given = [] if losses is None else given_laws(read_losses(losses))
    corpus = read_corpus(settings.text)
    encoded = encode_corpus(corpus, next(iter(settings.family.values())).data)
    content = settings.to_dict() | {"text_sha256": corpus.sha256}
    seeds = range(request.num_seeds)
    with Store.opened(request.folder(settings.scale), content) as store:
        counted = store.made("ngrams", AllNgrams, lambda: all_ngrams(settings, progress))
        family = _family(settings, encoded.train.ids, seeds, store, progress)
        cut, heads = _heads(settings, seeds, store, progress)
    widths, arms = summarize(family), head_arms(heads, cut)
    made = made_now("saturation")
    known = made["published"]
    law = laws(loss_rows(widths, family[0].tokens), given)
    return Reproduction(
        settings=content,
        data=corpus.name,
        counts={
            "train": len(encoded.train.ids),
            "valid": len(encoded.valid.ids),
            "vocab_size": encoded.vocab_size,
        },
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
    settings: Settings,
    ids: torch.Tensor,
    seeds: Sequence[int],
    store: Store,
    progress: Progress,
) -> list[FamilyRun]:
    """Every model, several at a time; the largest of each seed first, so that none waits for it."""
    jobs = []
    for seed in seeds:
        for width, recipe in sorted(settings.family.items(), reverse=True):
            model, schedule = recipe.model, recipe.training
            assert isinstance(model, Transformer)
            num_steps = settings.tokens // (schedule.batch_size * model.context)
            epochs = num_steps / WindowBatches(ids, model.context, schedule, 0).num_batches
            schedule = replace(schedule, epochs=epochs, evaluate_every=epochs)
            jobs.append(
                FamilyJob(
                    width=width,
                    seed=seed,
                    recipe=replace(recipe, training=schedule, seed=recipe.seed + seed),
                    steps=checkpoint_steps(num_steps, settings.linear),
                    train_tokens=settings.train_tokens,
                    folder=store.path / "runs" / f"family-d{width}-seed{seed}",
                )
            )
    stage = "family: {} of {} models"
    return all_runs(train_and_measure, jobs, FamilyRun, store, progress, stage=stage)


def _heads(
    settings: Settings, seeds: Sequence[int], store: Store, progress: Progress
) -> tuple[Truncated, list[HeadRun]]:
    """Truncations, and every head, one after the other with all threads.

    A finished head's weights go: those of all ranks and seeds take gigabytes and nothing reads
    them again.
    """
    place = store.path / "runs"
    states = recipe_states(settings.heads, place, progress)
    width = states.weight.shape[1]
    ranks = [*(rank for rank in settings.ranks if rank < width), width]
    cut = store.made("truncated", Truncated, lambda: truncated(states, ranks, progress))
    arms: list[tuple[int | None, str]] = [
        *((rank, start) for start in settings.starts for rank in ranks),
        (None, "own"),
    ]
    jobs = []
    for seed in seeds:
        for rank, start in arms:
            recipe = with_rate(head_recipe(settings, rank, start), rank or width, start, seed)
            epochs = recipe.training.epochs
            recipe = replace(recipe, training=replace(recipe.training, evaluate_every=epochs))
            name = f"heads-{start}-r{rank or width}-seed{seed}"
            jobs.append(HeadJob(rank or width, start, seed, recipe, place / name))
    found = all_runs(
        train_head,
        jobs,
        HeadRun,
        store,
        progress,
        stage="heads: {} of {}",
        processes=1,
        made=lambda job: shutil.rmtree(job.folder),
    )
    return cut, found
