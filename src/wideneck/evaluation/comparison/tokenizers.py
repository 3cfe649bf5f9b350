"""Which tokenizer a model reads with, and whether two are the same."""

import os
from pathlib import Path
from typing import Any

from torch import nn

from wideneck.data import Vocabulary
from wideneck.errors import WideneckError
from wideneck.models.source import resolve
from wideneck.models.tokens import load_tokenizer, token_strings
from wideneck.training.folder import is_run
from wideneck.training.saved_run import load_run


def tokenizer_of(model: str | os.PathLike | nn.Module | None, given: Any) -> Any:
    """The tokenizer of a model, without the model: of a run its own, of a model in memory `given`.

    Raises:
        WideneckError: there is none.
    """
    if isinstance(model, nn.Module):
        if given is None:
            raise WideneckError(
                f"A {type(model).__name__} in memory brings no tokenizer: pass tokenizer=..."
            )
        return given
    if model is not None and is_run(Path(model)):
        return load_run(Path(model)).tokenizer
    source = resolve(model)
    found = load_tokenizer(source.folder, source.file if source.is_gguf else None)
    if found is None:
        raise WideneckError(
            f"{source.display} has no tokenizer beside its weights: put tokenizer.json there, or "
            "name a complete model."
        )
    return found


def strings_of(tokenizer: Any) -> list[str | None]:
    """The strings of a tokenizer by id: two tokenizers that agree in them are taken for one."""
    if isinstance(tokenizer, Vocabulary):
        return list(tokenizer.words)
    return token_strings(tokenizer)
