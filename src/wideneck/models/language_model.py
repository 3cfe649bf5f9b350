"""Loads a whole language model with its tokenizer, for what only a running model shows.

Cost: the model in memory in the type asked for; a GGUF file is dequantized by transformers
(15 s and 0.6 GB for the default 135M model in float32).  Of what a map of devices puts on the disk
only what is at work is in memory; it is read from the model's own safetensors files, and written to
a temporary folder where they are of another kind.
"""

import os
import shutil
import weakref
from dataclasses import dataclass, replace
from tempfile import mkdtemp
from typing import Any

import torch
from torch import nn

from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, reading, reason
from wideneck.models.asking import name_of
from wideneck.models.auto_class import auto_class
from wideneck.models.building import building, size_of_files
from wideneck.models.causality import check_left_to_right
from wideneck.models.config_file import CONFIG, check_counts, plain, read_config
from wideneck.models.device_map import apart, is_offloaded
from wideneck.models.freed import return_what_is_freed
from wideneck.models.gguf_head import GgufParts, check_gguf
from wideneck.models.head_weights import head_in
from wideneck.models.placement import Placement
from wideneck.models.positions import max_positions
from wideneck.models.quiet import quiet_transformers
from wideneck.models.source import Source, resolve
from wideneck.models.tokens import load_tokenizer
from wideneck.models.whole_files import check_complete, check_whole, quantization_method


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that can be run on text."""

    model: Any
    """A causal language model of transformers; run it within `evaluating`."""
    tokenizer: Any
    source: str
    """What the user named."""
    bos: list[int]
    """The ids that the tokenizer puts in front of every text; often one, often none."""
    max_positions: int | None
    """The longest context that it has positions for; None where nothing names a limit."""


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder:
    """A model that writes a target from a source."""

    model: Any
    """Of transformers, with an encoder and a decoder."""
    tokenizer: Any
    source: str
    """What the user named."""


ON_CPU = Placement()
"""In float32."""


def load_language_model(
    model: str | os.PathLike | nn.Module | None,
    *,
    placement: Placement = ON_CPU,
    tokenizer: Any = None,
) -> LoadedModel:
    """Load a model and its tokenizer, or wrap a model in memory with the tokenizer given.

    Args:
        model: as for `read_head`.
        placement: where it is, and the type of its weights; a model in memory is left as it is.
        tokenizer: takes the place of the one found beside the weights.

    Raises:
        WideneckError: a file of it cannot be read, or it asks for more than the files hold; it
            lacks tensors of the model of its config, or holds others; it sees later tokens than
            the one that it predicts from; the map of devices is not one of this model.
    """
    if isinstance(model, nn.Module):
        if tokenizer is None:
            raise WideneckError(
                f"A {type(model).__name__} in memory brings no tokenizer: pass tokenizer=..."
            )
        return _wrap(model, tokenizer, name_of(model))
    source = resolve(model)
    _check_before(source)
    if tokenizer is None:
        tokenizer = load_tokenizer(source.folder, source.file if source.is_gguf else None)
    if tokenizer is None:
        raise _without_tokenizer(source)
    # GGUF says nothing of a type that torch has: its blocks become float32, as in `read_head`.
    if source.is_gguf and placement.dtype is None:
        placement = replace(placement, dtype=torch.float32)
    return _wrap(_placed(source, placement), tokenizer, source.display)


def load_encoder_decoder(model: str | os.PathLike) -> EncoderDecoder:
    """Load a model with an encoder and a decoder, in float32, and its tokenizer.

    Raises:
        WideneckError: as `load_language_model`, and for a model of another kind.
    """
    source = resolve(model)
    if source.is_gguf:
        raise WideneckError(
            f"{source.display} is a GGUF file, from which wideneck loads decoders alone: name the "
            "folder or id of an encoder-decoder of transformers."
        )
    _check_before(source)
    tokenizer = load_tokenizer(source.folder)
    if tokenizer is None:
        raise _without_tokenizer(source)
    loaded = _load(source, ON_CPU, None, "AutoModelForSeq2SeqLM", "an encoder-decoder")
    return EncoderDecoder(model=loaded, tokenizer=tokenizer, source=source.display)


def bos_of(tokenizer: Any) -> list[int]:
    """The ids in front of a text, seen by tokenizing one with and without special tokens."""
    name = type(tokenizer).__name__
    with reading(name, "what it puts in front of a text", "give another tokenizer"):
        whole = tokenizer("a").input_ids
        plain = tokenizer("a", add_special_tokens=False).input_ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return list(whole[:start])
    raise WideneckError(
        f"{name} tokenizes a text differently with special tokens ({whole}) "
        f"and without ({plain}), so what it puts in front is unknown."
    )


def _placed(source: Source, placement: Placement) -> Any:
    """The model; what a map of devices writes to the disk for it goes when the model goes."""
    if placement.device_map is None:
        return _load(source, placement)
    folder = mkdtemp(prefix="wideneck-")
    try:
        model = _load(source, placement, folder)
        own = head_in(model)
        if own is not None and any(weight.is_meta for weight in own.parameters()):
            raise WideneckError(
                f"The head of {source.display} is one of wideneck, and the map of devices leaves "
                "it elsewhere than it is computed: give its module a device that computes."
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


def _wrap(model: Any, tokenizer: Any, source: str) -> LoadedModel:
    check_left_to_right(model)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        bos=bos_of(tokenizer),
        max_positions=max_positions(model),
    )


def _without_tokenizer(source: Source) -> WideneckError:
    return WideneckError(
        f"{source.display} has no tokenizer beside its weights: put tokenizer.json there, or name "
        "a complete model."
    )


def _check_before(source: Source) -> None:
    """Refuse what its sizes give away, before a tokenizer or a model is made of it."""
    if not source.is_gguf:
        if read_config(source.folder) is None:
            if source.is_run:
                raise WideneckError(
                    f"{source.display} is a run of wideneck train, whose head alone an audit reads "
                    "(--section head): `wideneck evaluate` measures it on a text, its ranks too."
                )
            raise WideneckError(
                f"{source.folder} has no {CONFIG}, without which its weights are no model: "
                "download that as well, or audit the weights alone (--section head)."
            )
        return
    parts = GgufParts(source.folder.path(source.file))
    if parts.is_split:
        raise WideneckError(
            f"{source.file} is one part of a split model, which wideneck runs only whole: join the "
            "parts with `llama-gguf-split --merge`."
        )
    check_gguf(parts)
    check_counts(parts.first.metadata, f"The metadata of {source.file}")


def _load(
    source: Source,
    placement: Placement,
    folder: str | None = None,
    auto: str | None = None,
    what: str = "a causal language model",
) -> Any:
    import transformers
    from transformers import AutoConfig

    expected = "expected a model of an architecture that transformers knows, with complete weights"
    if not source.is_gguf:
        check_whole(source)
        quantization = (read_config(source.folder) or {}).get("quantization_config")
        if quantization:
            expected = (
                f"it is quantized ({quantization_method(quantization)}), so install what runs that "
                "here, or audit its output layer alone (--section head)"
            )
    name, revision = source.folder.pretrained
    where: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    if source.is_gguf:
        where["gguf_file"] = source.file
    options: dict[str, Any] = {"use_safetensors": False} if ".bin" in source.file else {}
    # A stranger's config and weights go through hundreds of model files here; whatever any of
    # them raises means the same to the user.
    with (
        failing(
            lambda error: (
                f"{source.display} cannot be loaded as {what} ({reason(error)}): {expected}."
            )
        ),
        quiet_transformers(),
        building(source.display, size_of_files(source.folder)),
    ):
        config = plain(AutoConfig.from_pretrained(name, **where))
        found = auto_class(config) if auto is None else getattr(transformers, auto)
        kind: Any = found or transformers.AutoModelForCausalLM
        if isinstance(placement.device_map, dict):
            with torch.device("meta"):
                places = apart(placement.device_map, kind.from_config(config))
            placement = replace(placement, device_map=places)
        model, info = kind.from_pretrained(
            name,
            config=config,
            dtype=placement.dtype or "auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they can be named
            **where,
            **options,
            **_places(placement, folder),
        )
    check_complete(model, info, source.display)
    if is_offloaded(model):
        return_what_is_freed()
    return model


def _places(placement: Placement, folder: str | None) -> dict[str, Any]:
    """What transformers is told of devices; nothing for the CPU alone."""
    if placement.device_map is None:
        return {} if placement.device.type == "cpu" else {"device_map": {"": placement.device}}
    return {
        "device_map": placement.device_map,
        "max_memory": placement.max_memory,
        "offload_folder": folder,
    }
