"""Hidden states of the default model on two texts, computed once and kept in a safetensors file.

A text is cut by `wideneck.data.cut_windows`: one window from each document in an order drawn at
random, then round again.  The states are those that enter the output layer, after the final norm;
a state has seen its own window only.  Cost: some 2 ms a token on 2 cores, 2.3 kB a token on disk,
and 113 MB for the output matrix, which is kept with them so that a rerun loads no model.
"""

import gzip
import hashlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import collect_states
from wideneck.data import Text, cut_windows, read_text
from wideneck.errors import WideneckError
from wideneck.models import (
    default_model,
    evaluating,
    load_language_model,
    measure_logit_map,
    read_head,
)

WINDOW = 512


@dataclass(frozen=True, kw_only=True)
class Cached:
    """The output matrix, and the states (N, D) before each target (N,), all on the CPU."""

    weight: Tensor
    """(V, D) float32: the model's own output matrix, the start of every head."""
    logit_scale: Tensor
    """Constant factor of the scores, a scalar."""
    train_hidden: Tensor
    train_target: Tensor
    train_document: Tensor
    valid_hidden: Tensor
    valid_target: Tensor
    valid_document: Tensor
    """(N / WINDOW,): the document of each window."""


def cached_states(
    train: Path, valid: Path, train_tokens: int, valid_tokens: int, file: Path
) -> tuple[Cached, dict]:
    """The states and what they are of: from `file` if it is of the same, else into it."""
    texts = {"train": read(train), "valid": read(valid)}
    counts = {"train": train_tokens, "valid": valid_tokens}
    for name, count in counts.items():
        if count < WINDOW or count % WINDOW:
            raise WideneckError(f"The {name} tokens come in windows of {WINDOW}, got {count}.")
    with default_model().open("rb") as content:
        model = hashlib.file_digest(content, "sha256").hexdigest()
    about = {"model": default_model().name, "model_sha256": model, "window": WINDOW}
    for name, text in texts.items():
        about |= {name: text.name, f"{name}_sha256": text.sha256, f"{name}_tokens": counts[name]}
    if not holds(file, about):
        write(_compute(texts, counts), about, file)
    return Cached(**load_file(file)), about


def read(path: Path) -> Text:
    """A text file, plain or gzipped."""
    if path.suffix != ".gz":
        return read_text(path)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        return read_text(plain)


def holds(file: Path, about: dict) -> bool:
    if not file.exists():
        return False
    with safe_open(file, framework="pt") as content:
        return json.loads((content.metadata() or {}).get("about", "null")) == about


def _compute(texts: dict[str, Text], counts: dict[str, int]) -> dict[str, Tensor]:
    language_model = load_language_model(default_model())
    model = language_model.model
    found = {}
    with evaluating(model):
        logit_map = measure_logit_map(model)
        if logit_map.cap is not None:
            raise WideneckError("The study has no heads for a model with a soft cap.")
        head = read_head(model, tokenizer=language_model.tokenizer)
        for name, text in texts.items():
            windows = cut_windows(
                text,
                language_model.tokenizer,
                num_tokens=counts[name],
                window=WINDOW,
                prefix=language_model.bos,
            )
            if windows.targets.numel() != counts[name]:
                raise WideneckError(
                    f"{text.name} gives {windows.targets.numel()} tokens in windows of {WINDOW}, "
                    f"not {counts[name]}: ask for fewer or give a longer text."
                )
            states = collect_states(model, windows, progress=_progress)
            probe = states.last_logits
            layer = OutputLayer.of(head, logit_map)
            layer.check(states.hidden[0, -len(probe) :], probe, head.model)
            found[f"{name}_hidden"] = states.hidden.flatten(0, 1)
            found[f"{name}_target"] = states.targets.flatten()
            found[f"{name}_document"] = states.document
    found["weight"] = head.weight.float()
    found["logit_scale"] = torch.tensor(logit_map.scale)
    return found


def _progress(stage: str, done: int, total: int) -> None:
    print(f"\r{stage}: {done} of {total} windows", end="", file=sys.stderr, flush=True)
    if done == total:
        print(file=sys.stderr)


def write(tensors: dict[str, Tensor], about: dict, file: Path) -> None:
    """Whole or not at all: an interrupted run leaves no half of a file under this name."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, partial, {"about": json.dumps(about)})
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
