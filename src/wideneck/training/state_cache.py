"""The hidden states of a frozen model on a text, computed once and read from the disk as needed.

A folder of .npy files, memory-mapped, with what they are of in about.json; written under another
name and renamed when it is whole.  A split is cut by `wideneck.data.cut_windows`: one window from
each document in an order drawn at random, then round again.  A state has seen its own window only
and is what enters the output layer, after the final norm.

Cost: one pass of the model; 4 D bytes a token on disk (2.3 kB for the default model) and, while it
is built, the states of a few windows in memory.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import Progress, collect_states
from wideneck.data import Text, Windows, cut_windows
from wideneck.errors import WideneckError
from wideneck.files.writing import json_text, make_readable, write_text
from wideneck.models import (
    LanguageModel,
    evaluating,
    load_language_model,
    measure_logit_map,
    read_head,
)
from wideneck.models.small.config import States

WINDOWS = 16
"""Windows of which the states are in memory at a time, while the cache is built."""
ABOUT = "about.json"


@dataclass(frozen=True, kw_only=True)
class SplitStates:
    """One split of a text: N tokens in windows of T."""

    hidden: Tensor
    """(N, D) float32, memory-mapped."""
    target: Tensor
    """(N,) ids, memory-mapped."""
    document: Tensor
    """(N / T,): the document of each window."""
    num_bytes: int
    """UTF-8 bytes of the predicted text."""


@dataclass(frozen=True, kw_only=True)
class CachedStates:
    """A model's output layer, and the states that enter it, by split."""

    weight: Tensor
    """(V, D) float32, the model's own output matrix, memory-mapped."""
    bias: Tensor | None
    """(V,)."""
    logit_scale: float
    splits: dict[str, SplitStates]
    """train, valid and, if asked, test."""
    about: dict[str, Any]


def cached_states(
    config: States,
    texts: dict[str, Text],
    folder: Path,
    *,
    model: Any = None,
    tokenizer: Any = None,
    progress: Progress | None = None,
) -> CachedStates:
    """The states, from a folder inside `folder` if they are there, else computed and kept there.

    Args:
        config: which model, and how many tokens.  A model is known by its name and its output
            matrix: one that was changed below it needs another name, or another folder.
        texts: of train, valid and, if tokens of it are asked for, test.
        folder: where caches are kept; equal settings share one.
        model: a model in memory in place of `config.model`, with `tokenizer`; two with one output
            layer share a cache, so give models that differ below it a folder each.
        tokenizer: of a model in memory.
        progress: told of the pass over the text.

    Raises:
        WideneckError: the model cannot be loaded, caps its scores softly, a text is too short, or
            the disk is full.
    """
    counts = {"train": config.train_tokens, "valid": config.valid_tokens}
    if config.test_tokens:
        counts["test"] = config.test_tokens
    named = config.model if model is None else model
    head = read_head(named, tokenizer=tokenizer)  # the tensor alone: no model is loaded yet
    about: dict[str, Any] = {
        "model": head.model,
        "head_sha256": head.sha256,
        "window": config.window,
    }
    for split, count in counts.items():
        about |= {f"{split}_sha256": texts[split].sha256, f"{split}_tokens": count}
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    place = folder / f"states-{key}"
    if not (place / ABOUT).exists():
        language_model = load_language_model(named, tokenizer=tokenizer)
        device = torch.accelerator.current_accelerator(check_available=True)
        if model is None and device is not None:
            language_model.model.to(device)
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".states-{key}.", dir=folder))
        try:
            _build(language_model, head, texts, counts, config.window, partial, progress)
            write_text(partial / ABOUT, json_text(about))
            make_readable(partial)
            partial.rename(place)
        except OSError as error:
            if not (place / ABOUT).exists():  # another process may have been faster
                raise WideneckError(
                    f"The hidden states could not be written below {folder}: {error.strerror}."
                ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _open(place, counts, about)


def _build(
    language_model: LanguageModel,
    head: Any,
    texts: dict[str, Text],
    counts: dict[str, int],
    window: int,
    folder: Path,
    progress: Progress | None,
) -> None:
    model = language_model.model
    with evaluating(model), torch.no_grad():
        logit_map = measure_logit_map(model)
        if logit_map.cap is not None:
            raise WideneckError(
                f"{language_model.source} caps its logits softly; a head is not trained on its "
                "states, because no other head can take over its predictions."
            )
        layer = OutputLayer.of(head, logit_map)
        _save(folder / "weight", layer.weight)
        if layer.bias is not None:
            _save(folder / "bias", layer.bias)
        _save(folder / "logit_scale", torch.tensor(logit_map.scale))
        for split, count in counts.items():
            windows = cut_windows(
                texts[split],
                language_model.tokenizer,
                num_tokens=count,
                window=window,
                prefix=language_model.bos,
            )
            if windows.targets.numel() != count:
                raise WideneckError(
                    f"{texts[split].name} gives {windows.targets.numel():,} tokens in windows of "
                    f"{window}, not {count:,}: ask for fewer or give a longer text."
                )
            _build_split(model, layer, head.model, windows, folder / split, split, progress)


def _build_split(
    model: Any,
    layer: OutputLayer,
    name: str,
    windows: Windows,
    stem: Path,
    split: str,
    progress: Progress | None,
) -> None:
    (num_windows, length), width = windows.targets.shape, layer.weight.shape[1]
    # Written, not mapped: a full disk is an error here, and the end of the process there.
    with open(f"{stem}-hidden.npy", "wb") as file:
        _write_header(file, (num_windows * length, width), np.dtype(np.float32))
        for start in range(0, num_windows, WINDOWS):
            part = slice(start, start + WINDOWS)
            states = collect_states(
                model,
                Windows(
                    ids=windows.ids[part],
                    targets=windows.targets[part],
                    document=windows.document[part],
                    num_bytes=windows.num_bytes[part],
                ),
            )
            if start == 0:
                probe = states.last_logits
                layer.check(states.hidden[0, -len(probe) :], probe, name)
            file.write(states.hidden.float().contiguous().numpy().data)
            if progress:
                progress(
                    f"hidden states of the {split} text",
                    min(start + WINDOWS, num_windows),
                    num_windows,
                )
        _to_disk(file)
    _save(Path(f"{stem}-target"), windows.targets.flatten())
    _save(Path(f"{stem}-document"), windows.document)
    _save(Path(f"{stem}-bytes"), windows.num_bytes.sum())


def _open(place: Path, counts: dict[str, int], about: dict[str, Any]) -> CachedStates:
    bias = place / "bias.npy"
    return CachedStates(
        weight=_mapped(place / "weight"),
        bias=_mapped(place / "bias") if bias.exists() else None,
        logit_scale=_mapped(place / "logit_scale").item(),
        splits={
            split: SplitStates(
                hidden=_mapped(place / f"{split}-hidden"),
                target=_mapped(place / f"{split}-target"),
                document=_mapped(place / f"{split}-document"),
                num_bytes=int(_mapped(place / f"{split}-bytes").item()),
            )
            for split in counts
        },
        about=about,
    )


def _save(stem: Path, tensor: Tensor) -> None:
    array = tensor.cpu().numpy()
    with open(f"{stem}.npy", "wb") as file:
        _write_header(file, array.shape, array.dtype)
        file.write(array.ravel().data)
        _to_disk(file)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"shape": shape, "fortran_order": False, "descr": descr}
    np.lib.format.write_array_header_1_0(file, header)


def _mapped(stem: Path) -> Tensor:
    """Copy on write: the file is never changed, and torch wants writable memory."""
    try:
        return torch.from_numpy(np.load(f"{stem}.npy", mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError, EOFError):
        raise WideneckError(
            f"{stem}.npy is missing or damaged; remove {stem.parent}, and it is computed again."
        ) from None
