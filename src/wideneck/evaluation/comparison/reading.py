"""What each of several models makes of the same windows of a text, one model in memory at a time.

A model leaves behind the hidden states that enter its head, and the head itself; distributions are
formed again later, of all models chunk by chunk.  A model that predicts from a memory besides its
head leaves its losses alone.

Shapes: W windows of T predictions, D hidden size.
"""

import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.attached.swap import attached_head, placed_memory
from wideneck.audits.states import Progress
from wideneck.config import name_of
from wideneck.data import Windows
from wideneck.errors import WideneckError
from wideneck.evaluation.documents import Window, document_losses, own_head
from wideneck.heads import Head
from wideneck.models import LoadedModel, ask, evaluating, load_language_model
from wideneck.models.batches import Batches
from wideneck.models.placement import Placement
from wideneck.models.reading import check_ids, entering_head
from wideneck.training.folder import is_run
from wideneck.training.saved_run import SavedRun, load_run

AT_ONCE = 8
"""Windows of a run that are read together."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a model before it reads."""

    name: str
    kind: str
    """Name of its head, or "own"."""
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class Read:
    """One model on the windows."""

    about: About
    head: Head | None
    """None of a model that predicts from a memory besides."""
    hidden: Tensor | None
    """(W, T, D) float32, on the CPU; None likewise."""
    nll: Tensor | None
    """(W, T), of such a model alone: the others' losses come with their distributions."""


def load(model: Any, tokenizer: Any, name: str, where: Placement) -> tuple[LoadedModel, About]:
    """A model of transformers that reads from left to right.

    Raises:
        WideneckError: it cannot be loaded, has an encoder, or has no output layer.
    """
    loaded = load_language_model(model, placement=where, tokenizer=tokenizer)
    if loaded.model.config.is_encoder_decoder:
        raise WideneckError(
            f"{name} has an encoder: a comparison reads a text from left to right; give a model "
            "that predicts its next token."
        )
    if loaded.model.get_output_embeddings() is None:
        raise WideneckError(
            f"{name} has no output layer, so it predicts no tokens: give a causal language model."
        )
    own = attached_head(loaded.model)
    return loaded, About(
        name=name,
        kind="own" if own is None else name_of(own.config),
        num_parameters=sum(weight.numel() for weight in loaded.model.parameters()),
    )


@torch.no_grad()
def read_model(
    model: str | os.PathLike | nn.Module | None,
    tokenizer: Any,
    windows: Windows,
    *,
    name: str,
    where: Placement,
    progress: Progress | None = None,
) -> Read:
    """Run a model over windows without a prefix; it puts its own in front.

    Raises:
        WideneckError: as `load`; or it has fewer positions than a window, its output layer is not
            understood, or its states are not finite.
    """
    if model is not None and not isinstance(model, nn.Module) and is_run(Path(model)):
        return _read_run(load_run(Path(model)), windows, name, progress)
    loaded, about = load(model, tokenizer, name, where)
    windows = _behind(windows, loaded, name)
    check_ids(loaded.model, int(max(windows.ids.max(), windows.targets.max())))
    rows = _rows(windows)
    if placed_memory(loaded.model) is not None:
        found = document_losses(loaded.model, rows, batch=where.batch, progress=progress)
        return Read(about=about, head=None, hidden=None, nll=found.nll)
    head = own_head(loaded.model, rows[0]).eval()
    if head.weight.dtype.itemsize < 4:
        head = deepcopy(head).float()  # products in its own type would round scores
    hidden = _states(loaded.model, windows, where.batch, progress)
    if not hidden.isfinite().all():
        raise WideneckError(
            f"{name} gives hidden states that are not finite on this text; load it in a wider "
            "dtype."
        )
    return Read(about=about, head=head, hidden=hidden, nll=None)


def _states(model: Any, windows: Windows, batch: int | None, progress: Progress | None) -> Tensor:
    """(W, T, D): what enters the head; no logits but those of the last positions are formed."""
    num_windows, length = windows.ids.shape
    batches = Batches(model, batch, length)
    found: list[Tensor] = []

    def run(rows: Sequence[int]) -> list[Tensor]:
        entering.calls.clear()
        ask(model, input_ids=windows.ids[rows[0] : rows[-1] + 1], use_cache=False)
        return list(entering.only()[:, -windows.targets.shape[1] :].float().cpu())

    with evaluating(model), entering_head(model, last=1) as entering:
        for group in batches.groups([length] * num_windows):
            found += batches.read(group, run)
            if progress:
                progress("reading the text", len(found), num_windows)
    return torch.stack(found)


def _read_run(run: SavedRun, windows: Windows, name: str, progress: Progress | None) -> Read:
    """A small model; every window is read anew, whether or not its backbone carries a state."""
    context = run.model.backbone.context
    if context is not None and context < windows.targets.shape[1]:
        raise _too_long(name, windows.targets.shape[1], context)
    hidden: list[Tensor] = []
    with evaluating(run.model):
        for ids in windows.ids.split(AT_ONCE):
            hidden.append(run.model.backbone(ids, []).hidden.float())
            if progress:
                progress("reading the text", sum(map(len, hidden)), len(windows.ids))
    return Read(
        about=About(
            name=name,
            kind=name_of(run.model.head.config),
            num_parameters=run.model.num_parameters,
        ),
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


def _rows(windows: Windows) -> list[Window]:
    columns = (windows.ids, windows.targets, windows.document.tolist(), windows.num_bytes.tolist())
    return [Window(*row) for row in zip(*columns, strict=True)]
