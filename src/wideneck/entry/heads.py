"""A head wherever it is: in memory, in a checkpoint, or in a run of `wideneck train`."""

import os
from typing import Any

from torch import nn

from wideneck.errors import WideneckError
from wideneck.models import HeadWeights, read_head
from wideneck.models.source import resolve
from wideneck.models.tokens import token_strings
from wideneck.training.folder import MODEL
from wideneck.training.run_head import read_run_head


def head_of(model: str | os.PathLike | nn.Module | None, *, tokenizer: Any = None) -> HeadWeights:
    """The output layer of whatever the user named, and nothing else of it.

    Args:
        model: the folder of a run, or as for `wideneck.models.read_head`.
        tokenizer: takes the place of the one found beside the weights.

    Raises:
        WideneckError: as `read_head` and `read_run_head`.
    """
    if isinstance(model, nn.Module):
        return read_head(model, tokenizer=tokenizer)
    source = resolve(model)
    if not source.is_run:
        return read_head(source, tokenizer=tokenizer)
    if source.file != MODEL:
        raise WideneckError(
            f"{source.file} of {source.folder} is not the weights of that run of wideneck train: "
            f"give the folder, or its {MODEL}."
        )
    strings = None if tokenizer is None else token_strings(tokenizer)
    return read_run_head(source.folder.path(MODEL).parent, source.display, strings)
