"""Several models on one text: which is better, by how much, and on which tokens."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from wideneck.audits.clock import Clock
from wideneck.audits.states import Progress
from wideneck.data import Text, text_of
from wideneck.errors import WideneckError
from wideneck.evaluation.comparison.asked import Asked, Model
from wideneck.evaluation.comparison.by_document import by_document
from wideneck.evaluation.comparison.by_token import by_token
from wideneck.evaluation.comparison.comparison import Comparison
from wideneck.evaluation.comparison.tokenizers import strings_of, tokenizer_of
from wideneck.models.asking import name_of
from wideneck.models.devices import AUTO
from wideneck.models.placement import placed

WINDOW = 512
"""Predictions in a row."""
TOKENS = 16_384
"""Predictions where nobody says otherwise."""


def compare(
    *models: Model | Sequence[Model],
    text: str | os.PathLike | Text | None = None,
    tokenizer: Any = None,
    num_tokens: int = TOKENS,
    context: int = WINDOW,
    seed: int = 0,
    names: Sequence[str] | None = None,
    device: str | torch.device = AUTO,
    dtype: str | torch.dtype = AUTO,
    batch: int | str = AUTO,
    progress: Progress | None = None,
) -> Comparison:
    """Measure models on the same tokens, each beside the first.

    Args:
        models: two or more; each a Hugging Face id, a folder, a run of `wideneck train`, a GGUF or
            `.bin` file, a model in memory, or None for the default model.  Or two or more lists of
            such models, such as the seeds of two recipes: then groups are compared.
        text: a text file, or None for the reference of the Python language.
        tokenizer: the tokenizer of models in memory.
        num_tokens: predictions to make on the text.
        context: predictions in a row before the context starts anew.
        seed: chooses the windows of the text, as in an audit.
        names: what the models, or the groups, are called; None for names of their own.
        device: as for `wideneck.audit`.
        dtype: likewise.
        batch: likewise.
        progress: called as progress(stage, done, total).

    Returns:
        What was found.  Where tokenizers differ, bits per byte alone, over the same passages.

    Cost: one pass of each model over the text, one model in memory at a time; of each its head and
    N x D hidden states are kept.  Then a product with each head, and some ten passes over chunks of
    scores.

    Raises:
        WideneckError: fewer than two models or groups, an empty group, a model that cannot be read,
            groups of different tokenizers, or a text too short.
    """
    groups = _groups(models)
    if num_tokens < 1 or context < 1:
        raise WideneckError(
            "A comparison needs at least one token, in windows of at least one; "
            f"{num_tokens} were asked for, in windows of {context}."
        )
    if names is not None and len(names) != len(groups):
        raise WideneckError(f"There are {len(groups)} to be named, and {len(names)} names came.")
    flat = [model for group in groups for model in group]
    grouped = any(len(group) > 1 for group in groups)
    called = [*names] if names and not grouped else [_name(model) for model in flat]
    places = [placed(model, device, dtype, batch=batch) for model in flat]
    chosen = text_of(text)
    clock = Clock()
    with clock("read the tokenizers"):
        tokenizers = [tokenizer_of(model, tokenizer) for model in flat]
        first, *others = (strings_of(one) for one in tokenizers)
    named = names or [f"group {i + 1}" for i in range(len(groups))]
    asked = Asked(
        text=chosen,
        models=flat,
        names=_told_apart(called),
        tokenizers=tokenizers,
        places=places,
        groups=dict(zip(_told_apart(named), map(len, groups), strict=True)) if grouped else {},
        num_tokens=num_tokens,
        window=context,
        seed=seed,
        clock=clock,
        progress=progress,
    )
    return by_token(asked) if all(one == first for one in others) else by_document(asked)


def _groups(models: Sequence[Model | Sequence[Model]]) -> list[list[Any]]:
    """Models as groups of one; lists as they are."""
    if len(models) < 2:
        raise WideneckError(
            f"A comparison needs two models, or two groups of models; {len(models)} came."
        )
    lists = [isinstance(one, list | tuple) for one in models]
    if not any(lists):
        return [[one] for one in models]
    if not all(lists):
        raise WideneckError("A comparison is of models, or of lists of models: both came.")
    found = [list(one) for one in models if isinstance(one, list | tuple)]
    if not all(found):
        raise WideneckError("A group of models is empty: give at least one model in each.")
    return found


def _name(model: Model) -> str:
    if isinstance(model, nn.Module):
        return name_of(model)
    return "the default model" if model is None else os.fspath(model)


def _told_apart(names: Sequence[str]) -> list[str]:
    """A number behind each name that came before."""
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name} ({number})"
        found.append(free)
    return found
