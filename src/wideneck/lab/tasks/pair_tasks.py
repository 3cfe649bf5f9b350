"""Summaries and data to text: which pairs, which model, which measures."""

from dataclasses import asdict
from functools import partial
from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.records import record
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.published import ours
from wideneck.lab.registry import Request
from wideneck.lab.tasks.data_to_text import table_pairs
from wideneck.lab.tasks.docstrings import docstring_pairs
from wideneck.lab.tasks.judges import loaded_judge
from wideneck.lab.tasks.measuring import MEASURES, definitions_of, judged_too
from wideneck.lab.tasks.named_data import named_pairs
from wideneck.lab.tasks.pairs import Pair, Pairs
from wideneck.lab.tasks.scale import scale_from_scratch
from wideneck.lab.tasks.seq2seq import Recipe, Seq2Seq
from wideneck.lab.tasks.trial import Prepared

MODEL = "facebook/bart-large"
"""What the paper fine-tunes."""


def prepared(task: str, request: Request) -> Prepared:
    """All that the runs of a task share.

    Raises:
        WideneckError: options that do not go together, data that cannot be read, a judge that
            cannot judge, or a package that is missing.
    """
    scale = scale_from_scratch(request)
    judge = request.own.get("judge")
    # What cannot measure is refused before anything is trained: a missing package, and the judge.
    MEASURES[task].of([Pair("a", "a")], ["a"])
    judged = {} if judge is None else definitions_of(loaded_judge(judge))
    model = None if scale == "small" else request.model or MODEL
    recipe = recipe_of(task, scale)
    data = read(task, scale, request.own.get("data"), recipe)
    pairs = {name: len(getattr(data, name)) for name in ("train", "valid", "test")}
    for name, number in pairs.items():
        if not number:
            raise WideneckError(
                f"{data.name} has no pair in its {name} split: training needs some, and so do the "
                "cache that is fitted (valid) and what is written (test)."
            )
    return Prepared(
        settings={
            "task": task,
            "scale": scale,
            "model": model,
            "data": data.name,
            "read": f"{data.name}, {pairs['train']:,} pairs of training",
            "described": described(model, recipe),
            "counts": data.counts,
            "pairs": pairs,
            "sha256": data.sha256,
            "judge": judge,
            "judged": judged,
            "recipe": asdict(recipe),
        },
        begin=partial(begin, task, model, recipe, data, judge),
        processes=None if model is None else 1,  # a loaded model fills a machine
    )


def described(model: str | None, recipe: Recipe) -> str:
    """The model in words."""
    if model is not None:
        return f"{model}, fine-tuned"
    shape = recipe.shape
    assert shape is not None
    return (
        f"a BART from scratch ({shape.num_layers} + {shape.num_layers} layers, d = "
        f"{shape.hidden_size}, V = {shape.vocab_size:,})"
    )


def recipe_of(task: str, scale: str) -> Recipe:
    """Ours, by task and scale."""
    fields = ours("tasks", "scale")[task][scale]
    return record(Recipe, fields, "tasks.toml", "mend the file", exact=True)


def read(task: str, scale: str, data: str | None, recipe: Recipe) -> Pairs:
    """The pairs that the user names, or those of the small scale."""
    if data is not None:
        return named_pairs(task, data)
    if scale == "paper":
        raise WideneckError(
            f"--task {task} at the paper's scale needs its data, which wideneck does not bring: "
            "name it by --data; docs/reproduce.md says what each data set is."
        )
    if task == "summaries":
        return docstring_pairs()
    assert recipe.num_train is not None
    return table_pairs(0, recipe.num_train, recipe.num_valid, recipe.num_test)


def begin(
    task: str,
    model: str | None,
    recipe: Recipe,
    data: Pairs,
    judge: str | None,
    objective: str,
    seed: int,
) -> Seq2Seq:
    """One model from one seed."""
    memory: dict[str, Any] = dict(OBJECTIVES[objective].memory)
    if memory["alpha"]:
        memory["alpha"] = recipe.alpha
    measures = MEASURES[task] if judge is None else judged_too(MEASURES[task], loaded_judge(judge))
    return Seq2Seq(model, recipe, data, memory, seed, measures)
