"""The texts of the memory study: windows with the states of the frozen layers, and prompts.

Texts are taken as they are: the word-level WikiText-2 keeps its "<unk>" and " @-@ ".
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.memory_study_measures import common_words
from bench.memory_study_recipe import Recipe
from bench.memory_study_states import largest_difference, states_before
from wideneck.data import Text, cut_windows, read_text
from wideneck.errors import WideneckError
from wideneck.models import default_model

CLOSE = 1e-3
"""By how much rounding may move a logit when the model is run in two parts."""


@dataclass(frozen=True)
class Windows:
    """W windows of T tokens, and what the first trained layer reads of them."""

    ids: Tensor
    """(W, T)."""
    states: Tensor
    """(W, T, D)."""
    document: Tensor
    """(W,)."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """All that a run reads."""

    train: Windows
    valid: Windows
    test: Windows
    prompts: Tensor
    """(N, P), the beginnings of test documents."""
    human: Tensor
    """(N, C), how they go on."""
    common: frozenset[str]
    """Words that are no content."""


def describe(texts: dict[str, Text], recipe: Recipe) -> dict[str, Any]:
    """What a run depends on, as its file says it."""
    with default_model().open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    about: dict[str, Any] = {"model": default_model().name, "model_sha256": digest}
    for name, text in texts.items():
        about |= {name: text.name, f"{name}_sha256": text.sha256}
    return about | {"recipe": vars(recipe)}


def read_texts(files: dict[str, Path]) -> dict[str, Text]:
    return {name: read_text(file) for name, file in files.items()}


def corpus(texts: dict[str, Text], language_model: Any, recipe: Recipe, file: Path) -> Corpus:
    """The windows with their states, from `file` if they are there, else into it."""
    counts = {"train": recipe.pool, "valid": recipe.valid, "test": recipe.test}
    tokenizer = language_model.tokenizer
    windows = {
        name: _windows(texts[name], tokenizer, counts[name], recipe.window) for name in texts
    }
    first = first_trained(language_model.model, recipe)
    about = {**describe(texts, recipe), "recipe": {**counts, "window": recipe.window}}
    about |= {"first": first}
    if not _holds(file, about):
        states = {n: states_before(language_model.model, first, w.ids) for n, w in windows.items()}
        _write(states, about, file)
    found = {n: replace(windows[n], states=states) for n, states in load_file(file).items()}
    _check(language_model.model, first, found["test"])
    prompts, human = _prompts(texts["test"], tokenizer, recipe)
    common = common_words(texts["train"].documents, recipe.common_words)
    return Corpus(**found, prompts=prompts, human=human, common=common)


def _holds(file: Path, about: dict[str, Any]) -> bool:
    if not file.exists():
        return False
    with safe_open(file, framework="pt") as content:
        return json.loads((content.metadata() or {}).get("about", "null")) == about


def _write(tensors: dict[str, Tensor], about: dict[str, Any], file: Path) -> None:
    """Whole or not at all: an interrupted run leaves no half of a file under this name."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, partial, {"about": json.dumps(about)})
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def first_trained(model: Any, recipe: Recipe) -> int:
    """The lowest trained layer."""
    return len(model.model.layers) - recipe.trained_layers


def _windows(text: Text, tokenizer: Any, count: int, window: int) -> Windows:
    cut = cut_windows(text, tokenizer, num_tokens=count * window, window=window)
    if len(cut.ids) != count:
        raise WideneckError(
            f"{text.name} gives {len(cut.ids)} windows of {window} tokens, not {count}: give a "
            "longer text."
        )
    return Windows(cut.ids, torch.empty(0), cut.document)


def _check(model: Any, first: int, windows: Windows) -> None:
    difference = largest_difference(model, first, windows.ids[:1], windows.states[:1])
    if difference > CLOSE:
        raise RuntimeError(f"Run in two parts, the model's logits differ by {difference:.2g}.")


def _prompts(text: Text, tokenizer: Any, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The beginnings of the first documents that are long enough, and how they go on."""
    length = recipe.prompt + recipe.continuation
    encoded = [
        tokenizer(document, add_special_tokens=False, verbose=False).input_ids[:length]
        for document in text.documents
    ]
    kept = [ids for ids in encoded if len(ids) == length][: recipe.prompts]
    if len(kept) < recipe.prompts:
        raise WideneckError(
            f"{text.name} has {len(kept)} documents of {length} tokens, not {recipe.prompts}: give "
            "a text with more of them."
        )
    ids = torch.tensor(kept)
    return ids[:, : recipe.prompt], ids[:, recipe.prompt :]
