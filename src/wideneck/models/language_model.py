"""Loads a whole causal language model with its tokenizer, for what only a running model shows.

Cost: the model in memory in the type asked for; a GGUF file is dequantized by transformers
(15 s and 0.6 GB for the default 135M model in float32).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason
from wideneck.models.quiet import quiet_transformers
from wideneck.models.source import Source, resolve
from wideneck.models.tokens import load_tokenizer
from wideneck.models.whole_files import check_files


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A model that can be run on text."""

    model: Any
    """A causal language model of transformers; run it within `evaluating`."""
    tokenizer: Any
    source: str
    """What the user named."""
    bos: list[int]
    """The ids that the tokenizer puts in front of every text; often one, often none."""
    max_positions: int | None
    """The longest context the config allows; None where it names no limit."""


def load_language_model(
    model: str | os.PathLike | nn.Module | None,
    *,
    dtype: torch.dtype = torch.float32,
    tokenizer: Any = None,
) -> LanguageModel:
    """Load a model and its tokenizer, or wrap a model in memory with the tokenizer given.

    Args:
        model: as for `read_head`.
        dtype: type of the weights; a model in memory is left in its own.
        tokenizer: takes the place of the one found beside the weights.
    """
    if isinstance(model, nn.Module):
        if tokenizer is None:
            raise WideneckError(
                f"A {type(model).__name__} in memory brings no tokenizer: pass tokenizer=..."
            )
        name = getattr(getattr(model, "config", None), "name_or_path", "")
        return _wrap(model, tokenizer, name or type(model).__name__)
    source = resolve(model)
    if tokenizer is None:
        tokenizer = load_tokenizer(source.folder, source.file if source.is_gguf else None)
    if tokenizer is None:
        raise WideneckError(
            f"{source.display} has no tokenizer beside its weights: put tokenizer.json there, or "
            "name a complete model."
        )
    return _wrap(_load(source, dtype), tokenizer, source.display)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, and each module's own mode again after: the model may be in training."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def bos_of(tokenizer: Any) -> list[int]:
    """The ids in front of a text, seen by tokenizing one with and without special tokens."""
    whole = tokenizer("a").input_ids
    plain = tokenizer("a", add_special_tokens=False).input_ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return list(whole[:start])
    raise WideneckError(
        f"{type(tokenizer).__name__} tokenizes a text differently with special tokens ({whole}) "
        f"and without ({plain}), so what it puts in front is unknown."
    )


def _wrap(model: Any, tokenizer: Any, source: str) -> LanguageModel:
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        bos=bos_of(tokenizer),
        max_positions=positions if isinstance(positions, int) and positions > 0 else None,
    )


def _load(source: Source, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    _refuse_part(source)
    name, revision = source.folder.pretrained
    options: dict[str, Any] = {"gguf_file": source.file} if source.is_gguf else {}
    if ".bin" in source.file:
        options["use_safetensors"] = False
    try:
        with quiet_transformers():
            model, info = AutoModelForCausalLM.from_pretrained(
                name,
                revision=revision or "main",
                dtype=dtype,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    # A stranger's config and weights go through hundreds of model files here; whatever any of
    # them raises means the same to the user.
    except Exception as error:
        raise WideneckError(
            f"{source.display} cannot be loaded as a causal language model "
            f"({reason(error)}): expected a model of an "
            "architecture that transformers knows, with complete weights."
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise WideneckError(
            f"{source.display} lacks {len(missing)} of the model's tensors ({missing[0]}, ...), "
            "which would be random numbers: it is incomplete or not a causal language model."
        )
    return model


def _refuse_part(source: Source) -> None:
    """Transformers loads folders; a file is fine only where it is what the folder would load."""
    standard = ("model.safetensors", "pytorch_model.bin")
    if source.is_gguf:
        return
    if source.file in standard or source.file.endswith(".index.json"):
        check_files(source)
        return
    raise WideneckError(
        f"{source.file} alone is no whole model: give the folder with config.json and "
        "model.safetensors, or a .gguf file."
    )
