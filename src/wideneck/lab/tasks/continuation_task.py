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
from wideneck.lab.tasks.judges import loaded_judge
from wideneck.lab.tasks.measuring import definitions_of
from wideneck.lab.tasks.scale import scale_of
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
    scale = scale_of(request)
    data = request.own.get("data")
    if data is None and scale == "paper":
        raise WideneckError(
            f"--task {TASK} at the paper's scale needs its stories, which wideneck does not bring: "
            "name them by --data; docs/reproduce.md says what they are."
        )
    model: Any = request.model or (default_model() if scale == "small" else MODEL)
    recipe, corpus = recipe_of(scale), read_corpus(data)
    judge = request.own.get("judge")
    judged = {} if judge is None else definitions_of(loaded_judge(judge))

    @cache  # one model for all runs
    def start() -> Start:
        return Start(load_language_model(model), corpus, recipe)

    splits = {name: len(getattr(corpus, name) or ()) for name in ("train", "valid", "test")}
    return Prepared(
        settings={
            "task": TASK,
            "scale": scale,
            "model": request.model or getattr(model, "name", model),
            "data": corpus.name,
            "read": f"{corpus.name}, {splits['train']:,} documents of training",
            "described": described(model, recipe),
            "documents": splits,
            "sha256": corpus.sha256,
            "judge": judge,
            "judged": judged,
            "recipe": asdict(recipe),
        },
        begin=lambda objective, seed: Continuation(
            start(), objective, seed, None if judge is None else loaded_judge(judge)
        ),
        processes=1,
    )


def described(model: Any, recipe: Recipe) -> str:
    """The model in words."""
    name = getattr(model, "stem", model)
    if recipe.trained_layers is None:
        return f"{name}, fine-tuned"
    return f"the last {recipe.trained_layers} layers of {name}"


def recipe_of(scale: str) -> Recipe:
    """Ours, by scale."""
    fields = ours("tasks", "scale")[TASK][scale]
    return record(Recipe, fields, "tasks.toml", "mend the file", exact=True)
