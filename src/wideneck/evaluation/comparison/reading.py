"""What each of several models makes of the same windows of a text, one model in memory at a time.

A model leaves behind the hidden states that enter its head, and the head itself; distributions are
formed again later, of all models chunk by chunk.  A model that predicts from a memory besides its
head leaves its losses alone.

Shapes: W windows of T predictions, D hidden size.
"""

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.attached.swap import attached_head, placed_memory
from wideneck.audits.states import Progress, collect_states
from wideneck.config import name_of
from wideneck.data import Windows
from wideneck.errors import WideneckError
from wideneck.evaluation.documents import Window, document_losses, own_head
from wideneck.heads import Head
from wideneck.models import LoadedModel, evaluating, load_language_model
from wideneck.models.asking import name_of as name_of_model
from wideneck.models.placement import Placement
from wideneck.models.reading import check_ids
from wideneck.models.source import resolve
from wideneck.models.tokens import load_tokenizer, token_strings
from wideneck.training.folder import is_run
from wideneck.training.saved_run import SavedRun, load_run

AT_ONCE = 8
"""Windows of a run that are read together."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """One model on the windows."""

    name: str
    """As the user named it."""
    kind: str
    """Name of its head, or "own"."""
    num_parameters: int
    head: Head | None
    """None of a model that predicts from a memory besides."""
    hidden: Tensor | None
    """(W, T, D) float32, on the CPU; None likewise."""
    nll: Tensor | None
    """(W, T), of such a model alone: the others' losses come with their distributions."""


def shown_name(model: str | os.PathLike | nn.Module | None) -> str:
    """What messages and tables call it."""
    if isinstance(model, nn.Module):
        return name_of_model(model)
    return "the default model" if model is None else os.fspath(model)


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
        return load_run(model).tokenizer
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
    words = getattr(tokenizer, "words", None)
    return token_strings(tokenizer) if words is None else list(words)


@torch.no_grad()
def read_model(
    model: str | os.PathLike | nn.Module | None,
    tokenizer: Any,
    windows: Windows,
    *,
    where: Placement,
    progress: Progress | None = None,
) -> Read:
    """Run a model over windows without a prefix; it puts its own in front.

    Raises:
        WideneckError: it cannot be loaded, has fewer positions than a window, or its output layer
            is not understood.
    """
    if model is not None and not isinstance(model, nn.Module) and is_run(Path(model)):
        return _read_run(load_run(model), windows, progress)
    loaded = load_language_model(model, placement=where, tokenizer=tokenizer)
    name = shown_name(model) if isinstance(model, nn.Module) else loaded.source
    if loaded.model.config.is_encoder_decoder:
        raise WideneckError(
            f"{name} has an encoder: a comparison reads a text from left to right; give a model "
            "that predicts its next token."
        )
    windows = _behind(windows, loaded, name)
    check_ids(loaded.model, int(max(windows.ids.max(), windows.targets.max())))
    own = attached_head(loaded.model)
    about = {
        "name": name,
        "kind": "own" if own is None else name_of(own.config),
        "num_parameters": sum(weight.numel() for weight in loaded.model.parameters()),
    }
    rows = [Window(*row) for row in _rows(windows)]
    if placed_memory(loaded.model) is not None:
        found = document_losses(loaded.model, rows, batch=where.batch, progress=progress)
        return Read(**about, head=None, hidden=None, nll=found.nll)
    head = own_head(loaded.model, rows[0]).eval()
    if head.weight.dtype.itemsize < 4:
        head = deepcopy(head).float()  # products in its own type would round scores
    with evaluating(loaded.model):
        states = collect_states(loaded.model, windows, batch=where.batch, progress=progress)
    return Read(**about, head=head, hidden=states.hidden, nll=None)


def _read_run(run: SavedRun, windows: Windows, progress: Progress | None) -> Read:
    """A small model; every window is read anew, whether or not its backbone carries a state."""
    context = run.model.backbone.context
    if context is not None and context < windows.targets.shape[1]:
        raise _too_long(str(run.path), windows.targets.shape[1], context)
    hidden = []
    with evaluating(run.model):
        for ids in windows.ids.split(AT_ONCE):
            hidden.append(run.model.backbone(ids, []).hidden.float())
            if progress:
                progress("reading the text", sum(map(len, hidden)), len(windows.ids))
    return Read(
        name=str(run.path),
        kind=name_of(run.model.head.config),
        num_parameters=run.model.num_parameters,
        head=run.model.head,
        hidden=torch.cat(hidden),
        nll=None,
    )


def _behind(windows: Windows, loaded: LoadedModel, name: str) -> Windows:
    """The windows behind what the model's tokenizer puts in front of a text."""
    length, limit = windows.targets.shape[1], loaded.max_positions
    if limit is not None and length + len(loaded.bos) > limit:
        raise _too_long(name, length, limit - len(loaded.bos))
    front = torch.tensor(loaded.bos, dtype=torch.long).expand(len(windows.ids), len(loaded.bos))
    return Windows(
        ids=torch.cat([front, windows.ids], dim=1),
        targets=windows.targets,
        document=windows.document,
        num_bytes=windows.num_bytes,
    )


def _too_long(name: str, asked: int, limit: int) -> WideneckError:
    return WideneckError(
        f"{name} reads {limit:,} tokens at most, and the windows have {asked:,}: give --context "
        f"{limit}."
    )


def _rows(windows: Windows) -> Any:
    return zip(
        windows.ids,
        windows.targets,
        windows.document.tolist(),
        windows.num_bytes.tolist(),
        strict=True,
    )
