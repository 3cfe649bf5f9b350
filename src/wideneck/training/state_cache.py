"""The hidden states of a frozen model on a text, computed once and read from the disk as needed.

A folder of .npy files, memory-mapped, with what they are of and the sum of each in about.json
(`wideneck.training.state_arrays`); written under another name and renamed when it is whole.  When a
cache is opened every file is read once, to compare its sum.  A split is cut by
`wideneck.data.cut_windows`: one window from each document in an order drawn at random, then round
again.  A state has seen its own window only and is what enters the output layer, after the final
norm.

Cost: one pass of the model; 4 D bytes a token on disk (2.3 kB for the default model) and, while it
is built, the states of a few windows in memory.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import Progress, collect_states
from wideneck.data import Text, Windows, cut_windows
from wideneck.errors import WideneckError
from wideneck.models import (
    LoadedModel,
    evaluating,
    load_language_model,
    measure_logit_map,
    read_head,
)
from wideneck.models.small.config import States
from wideneck.training.headers import StatesAbout
from wideneck.training.state_arrays import (
    ABOUT,
    Arrays,
    StoredArrays,
    put_in_place,
    sweep,
    workplace,
)

WINDOWS = 16
"""Windows of which the states are in memory at a time, while the cache is built."""


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
    about: StatesAbout


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
        WideneckError: the model cannot be loaded, caps its scores softly, a text is too short,
            the disk is full, or a cache that is there is damaged.
    """
    counts = {"train": config.train_tokens, "valid": config.valid_tokens}
    if config.test_tokens:
        counts["test"] = config.test_tokens
    named = config.model if model is None else model
    head = read_head(named, tokenizer=tokenizer)  # the tensor alone: no model is loaded yet
    of_splits = {}
    for split, count in counts.items():
        of_splits |= {f"{split}_sha256": texts[split].sha256, f"{split}_tokens": count}
    about = StatesAbout(
        model=head.model, head_sha256=head.sha256, window=config.window, **of_splits
    )
    text = json.dumps(about.to_dict(), sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    place = folder / f"states-{key}"
    sweep(folder)
    if not (place / ABOUT).exists():
        language_model = load_language_model(named, tokenizer=tokenizer)
        device = torch.accelerator.current_accelerator(check_available=True)
        if model is None and device is not None:
            language_model.model.to(device)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with workplace(folder, key) as partial:
                arrays = Arrays(partial)
                _build(language_model, head, texts, counts, config.window, arrays, progress)
                arrays.describe(about)
                put_in_place(partial, place)
        except OSError as error:
            raise WideneckError(
                f"The hidden states could not be written below {folder}: {error.strerror}."
            ) from None
    stored = StoredArrays(place, about, progress)
    return CachedStates(
        weight=stored.array("weight"),
        bias=stored.array("bias") if stored.has("bias") else None,
        logit_scale=stored.array("logit_scale").item(),
        splits={
            split: SplitStates(
                hidden=stored.array(f"{split}-hidden"),
                target=stored.array(f"{split}-target"),
                document=stored.array(f"{split}-document"),
                num_bytes=int(stored.array(f"{split}-bytes").item()),
            )
            for split in counts
        },
        about=about,
    )


def _build(
    language_model: LoadedModel,
    head: Any,
    texts: dict[str, Text],
    counts: dict[str, int],
    window: int,
    arrays: Arrays,
    progress: Progress | None,
) -> None:
    model = language_model.model
    with evaluating(model), torch.no_grad():
        logit_map = measure_logit_map(model)
        if not logit_map.is_linear:
            raise WideneckError(
                f"{language_model.source} caps its logits softly; a head is not trained on its "
                "states, because no other head can take over its predictions."
            )
        layer = OutputLayer.of(head, logit_map)
        arrays.save("weight", layer.weight)
        if layer.bias is not None:
            arrays.save("bias", layer.bias)
        arrays.save("logit_scale", torch.tensor(logit_map.scale))
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
            _build_split(model, layer, head.model, windows, arrays, split, progress)


def _build_split(
    model: Any,
    layer: OutputLayer,
    name: str,
    windows: Windows,
    arrays: Arrays,
    split: str,
    progress: Progress | None,
) -> None:
    (num_windows, length), width = windows.targets.shape, layer.weight.shape[1]
    with arrays.writing(
        f"{split}-hidden", (num_windows * length, width), np.dtype(np.float32)
    ) as file:
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
            file.write(states.hidden.float().contiguous().numpy().data.cast("B"))
            if progress:
                progress(
                    f"hidden states of the {split} text",
                    min(start + WINDOWS, num_windows),
                    num_windows,
                )
    arrays.save(f"{split}-target", windows.targets.flatten())
    arrays.save(f"{split}-document", windows.document)
    arrays.save(f"{split}-bytes", windows.num_bytes.sum())
