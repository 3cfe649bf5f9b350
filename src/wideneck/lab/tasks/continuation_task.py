"""Continuation as the command line asks for it: which text, which model, which recipe."""

from dataclasses import asdict
from functools import cache
from typing import Any

from wideneck.data.corpus import read_corpus
from wideneck.errors import WideneckError
from wideneck.files.records import record
from wideneck.lab.published import ours
from wideneck.lab.registry import Request
from wideneck.lab.tasks.continuation import Continuation
from wideneck.lab.tasks.continuation_start import Recipe, Start
from wideneck.lab.tasks.trial import Prepared
from wideneck.models import default_model, load_language_model

TASK = "continuation"
MODEL = "gpt2"
"""What the paper fine-tunes."""


def prepared(request: Request) -> Prepared:
    """All that the runs of the task share; no model is loaded before one begins.

    Raises:
        WideneckError: the paper's scale without its text, or a text that cannot be read.
    """
    scale = request.scale or ("small" if request.model is None else "paper")
    data = request.own.get("data")
    if data is None and scale == "paper":
        raise WideneckError(
            f"--task {TASK} at the paper's scale needs its stories, which wideneck does not bring: "
            "name them by --data; docs/reproduce.md says what they are."
        )
    model: Any = request.model or (default_model() if scale == "small" else MODEL)
    recipe, corpus = recipe_of(scale), read_corpus(data)

    @cache  # one model for all runs
    def start() -> Start:
        return Start(load_language_model(model), corpus, recipe)

    splits = {name: len(getattr(corpus, name) or ()) for name in ("train", "valid", "test")}
    return Prepared(
        settings={
            "paper": "histalign",
            "task": TASK,
            "scale": scale,
            "model": request.model or getattr(model, "name", model),
            "data": corpus.name,
            "documents": splits,
            "sha256": corpus.sha256,
            "recipe": asdict(recipe),
        },
        begin=lambda objective, seed: Continuation(start(), objective, seed),
        processes=1,
    )


def recipe_of(scale: str) -> Recipe:
    """Ours, by scale."""
    fields = ours("tasks", "scale")[TASK][scale]
    return record(Recipe, fields, "tasks.toml", "mend the file", exact=True)
