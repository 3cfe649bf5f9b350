"""The texts of the memory study: windows with the states of the frozen layers, and prompts.

Texts are taken as they are: the word-level WikiText-2 keeps its "<unk>" and " @-@ ".
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.memory_study_scores import Windows, largest_difference, states_before
from wideneck.data import Text, cut_windows
from wideneck.errors import WideneckError
from wideneck.lab.tasks.coherence import common_words
from wideneck.models import default_model
from wideneck.training.tensor_file import Stored, write_tensors

CLOSE = 1e-3
"""By how much rounding may move a logit when the model is run in two parts."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every model is trained and measured."""

    window: int = 512
    pool: int = 240
    """Windows of the training text; a seed draws from them what it trains on, and the order."""
    valid: int = 24
    """Windows that temperature and bias are fitted on afterwards."""
    test: int = 40
    trained_layers: int = 4
    """The last ones and the final norm; the others, embedding and output matrix are frozen."""
    steps: int = 48
    batch: int = 2
    """Windows of a step."""
    lr: float = 1e-3
    """The best of 1e-4, 3e-4 and 1e-3 for plain, seed 0, 96 steps, on the validation text."""
    memory_lr: float = 5e-2
    """Rate of temperature and bias, which at the other rate would stay where they start."""
    weight_decay: float = 0.1
    """Weight decay of the matrices."""
    warm_up: float = 0.1
    clip: float = 1.0
    prompts: int = 20
    """The first documents of the test text that are long enough."""
    prompt: int = 64
    continuation: int = 128
    top_p: float = 0.95
    common_words: int = 200
    """How many of the training text's most frequent words count as no content."""

    def factor(self, step: int) -> float:
        """Factor of the learning rates: linear warm-up, then linear decay to 0."""
        warm_up = max(1, round(self.warm_up * self.steps))
        if step < warm_up:
            return (step + 1) / warm_up
        return (self.steps - step) / max(1, self.steps - warm_up)


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


def corpus(texts: dict[str, Text], language_model: Any, recipe: Recipe, file: Path) -> Corpus:
    """The windows with their states, from `file` if they are there, else into it."""
    counts = {"train": recipe.pool, "valid": recipe.valid, "test": recipe.test}
    tokenizer = language_model.tokenizer
    windows = {
        name: _windows(texts[name], tokenizer, counts[name], recipe.window) for name in texts
    }
    model = language_model.model
    first = first_trained(model, recipe)
    read = {"recipe": {**counts, "window": recipe.window}, "first": first}
    about = describe(texts, recipe) | read
    if not file.exists() or Stored(file).about != about:
        states = {n: states_before(model, first, w.ids).contiguous() for n, w in windows.items()}
        write_tensors(file, states, about)
    found = {n: replace(windows[n], states=states) for n, states in Stored(file).tensors()}
    difference = largest_difference(model, first, found["test"].ids[:1], found["test"].states[:1])
    if difference > CLOSE:
        raise RuntimeError(f"Run in two parts, the model's logits differ by {difference:.2g}.")
    prompts, human = _prompts(texts["test"], tokenizer, recipe)
    common = common_words(texts["train"].documents, recipe.common_words)
    return Corpus(**found, prompts=prompts, human=human, common=common)


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
