"""Several models on one text: which is better, by how much, and on which tokens."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from wideneck.audits.clock import Clock
from wideneck.audits.states import Progress
from wideneck.data import Text, default_text, read_text
from wideneck.errors import WideneckError
from wideneck.evaluation.comparison.asked import Asked, Model
from wideneck.evaluation.comparison.by_document import by_document
from wideneck.evaluation.comparison.by_token import by_token
from wideneck.evaluation.comparison.comparison import Comparison
from wideneck.evaluation.comparison.reading import strings_of, tokenizer_of
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
    context: int | None = None,
    seed: int = 0,
    device: str | torch.device = AUTO,
    dtype: str | torch.dtype = AUTO,
    batch: int | str = AUTO,
    names: Sequence[str] | None = None,
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
        context: predictions in a row before the context starts anew; None for 512.
        seed: chooses the windows of the text, as in an audit.
        device: as for `wideneck.audit`.
        dtype: likewise.
        batch: likewise.
        names: of groups.
        progress: called as progress(stage, done, total).

    Returns:
        What was found.  Where tokenizers differ, only bits per byte are compared, over whole
        documents.

    Cost: one pass of each model over the text, one model in memory at a time, N x D hidden states
    of each kept; then a product with each head and some ten passes over chunks of scores.

    Raises:
        WideneckError: fewer than two models or groups, an empty group, a model that cannot be read,
            or a text too short.
    """
    groups = _groups(models)
    if num_tokens < 1 or (context is not None and context < 1):
        raise WideneckError("A comparison needs at least one token, in windows of at least one.")
    flat = [model for group in groups for model in group]
    places = [placed(model, device, dtype, batch=batch) for model in flat]
    chosen = default_text() if text is None else text
    clock = Clock()
    with clock("read the tokenizers"):
        tokenizers = [tokenizer_of(model, tokenizer) for model in flat]
        strings = [strings_of(one) for one in tokenizers]
    asked = Asked(
        text=chosen if isinstance(chosen, Text) else read_text(chosen),
        models=flat,
        tokenizers=tokenizers,
        num_tokens=num_tokens,
        window=context or WINDOW,
        seed=seed,
        places=places,
        clock=clock,
        progress=progress,
    )
    sizes = [len(group) for group in groups]
    if all(one == strings[0] for one in strings):
        return by_token(asked, sizes, names or [f"group {i + 1}" for i in range(len(sizes))])
    if max(sizes) > 1:
        raise WideneckError(
            "Groups are compared token by token, and these models have different tokenizers: give "
            "models of one vocabulary."
        )
    return by_document(asked)


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
