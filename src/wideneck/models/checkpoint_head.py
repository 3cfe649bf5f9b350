"""Reads the output layer of a causal language model and nothing else of it.

Cost: the head's own tensor once in its storage type (mapped where the file is on disk), and the
input embedding row by row where it must be compared; a 70B model is read from one shard.  A
quantized head is decoded to float32, its codes in memory besides.
"""

import os
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.errors import WideneckError
from wideneck.files.printable import listed
from wideneck.models.asking import name_of
from wideneck.models.checks import check_matrix
from wideneck.models.config_file import read_config
from wideneck.models.device_map import weights_there
from wideneck.models.expected_head import ExpectedHead, expected_head, module_name
from wideneck.models.folder import LocalFolder
from wideneck.models.gguf_head import read_gguf_head
from wideneck.models.head_weights import HeadWeights, form_of, output_layer
from wideneck.models.naming import find_bias, find_embedding, find_head, only_matrix
from wideneck.models.parts import missing_parts, open_weights
from wideneck.models.quantized.checkpoint import DecodedFile
from wideneck.models.quantized.size import check_size
from wideneck.models.source import Source, resolve
from wideneck.models.tensor_file import TensorFile
from wideneck.models.text_part import text_config
from wideneck.models.tokens import load_tokenizer, token_strings
from wideneck.models.tying import describe_tying, same_numbers, stored_differently

MEMORY = "cache_memory."
"""How the names of a memory's tensors begin; see `attached.swap`."""


def read_head(
    model: str | os.PathLike | nn.Module | Source | None, *, tokenizer: Any = None
) -> HeadWeights:
    """Read the output layer of a checkpoint or of a model in memory.

    Args:
        model: a .safetensors, .gguf, .bin or .pt file; a model folder; a Hugging Face id, with
            `@revision` if wanted; a causal language model of transformers, whose memory is then
            shared; a source that is resolved already; None for the default model.
        tokenizer: takes the place of the tokenizer found beside the weights.
    """
    strings = None if tokenizer is None else token_strings(tokenizer)
    if isinstance(model, nn.Module):
        head = _read_module(model, strings)
    else:
        source = model if isinstance(model, Source) else resolve(model)
        head = _read_gguf(source, strings) if source.is_gguf else _read_tensors(source, strings)
    return head if tokenizer is None else replace(head, tokenizer=lambda: tokenizer)


def _read_gguf(source: Source, strings: list[str | None] | None) -> HeadWeights:
    head = read_gguf_head(source.folder.path(source.file), source.display, strings)
    if head.tokens is None:
        return head
    return replace(head, tokenizer=partial(load_tokenizer, source.folder, source.file))


def _read_module(model: nn.Module, tokens: list[str | None] | None) -> HeadWeights:
    """The head of a causal language model in memory, sharing that memory on the CPU."""
    head = output_layer(model)
    layer: Any = model.get_input_embeddings()  # pyrefly: ignore[not-callable]
    with weights_there(head, layer):
        return _read_layers(model, head, layer, tokens)


def _read_layers(
    model: nn.Module, head: Any, layer: Any, tokens: list[str | None] | None
) -> HeadWeights:
    name = f"{module_name(model, head)}.weight"
    if head.weight.is_meta:
        raise WideneckError(f"{name} is on the meta device: load the model's weights first.")
    weight = head.weight.detach().cpu()
    bias = getattr(head, "bias", None)
    bias = None if bias is None else bias.detach().cpu()
    check_matrix(name, weight, bias)

    embedding, embedding_name, same = getattr(layer, "weight", None), None, False
    if isinstance(embedding, Tensor):
        # The module's name, not the parameter's: a tied one is listed under its first name.
        embedding_name = f"{module_name(model, layer)}.weight"
        same = _same(head.weight, embedding)
    tied, tying = describe_tying(name, embedding_name, same, _config_says(model))
    return HeadWeights.of(
        weight,
        bias,
        name=name,
        tied=tied,
        tying=tying.replace("the file holds", "the model holds").replace("stored ", ""),
        tokens=tokens,
        model=name_of(model),
        form=form_of(model),
        input_weight=None if same or not _is_matrix(embedding) else partial(_input_rows, layer),
    )


def _is_matrix(embedding: Any) -> bool:
    """Whether it has numbers to be measured: quantized modules keep their codes there."""
    return isinstance(embedding, Tensor) and embedding.ndim == 2 and embedding.is_floating_point()


def _input_rows(layer: Any) -> Tensor:
    with weights_there(layer):
        return layer.weight.detach().cpu()


def _same(head: Tensor, embedding: Tensor) -> bool:
    # Of a device without addresses every one is 0.
    if head is embedding or head.data_ptr() == embedding.data_ptr() != 0:
        return head.shape == embedding.shape
    return head.dtype == embedding.dtype and torch.equal(head, embedding)


def _config_says(model: nn.Module) -> bool | None:
    config: Any = getattr(model, "config", None)
    if config is None:
        return None
    levels = (config, text_config(config))
    return any(bool(getattr(level, "tie_word_embeddings", False)) for level in levels)


def _read_tensors(source: Source, strings: list[str | None] | None) -> HeadWeights:
    if source.is_run:
        raise WideneckError(
            f"{source.display} is a run of wideneck train where a model is wanted: give a model "
            "folder, as `wideneck.load(run).save_pretrained(folder)` writes it."
        )
    expected = expected_head(source.folder)
    config = read_config(source.folder) or {}
    file = DecodedFile(open_weights(source.folder, source.file), config)
    embedding = find_embedding(file, expected)
    head = find_head(file, expected, embedding)
    _refuse_missing_parts(source, head, expected)
    if head is None and embedding is None:
        if expected.vocab_size is not None:
            raise _no_head(file, source, expected)
        head = only_matrix(file)

    name = head or embedding
    assert name is not None
    weight = file.read(name)
    bias_name = find_bias(file, name, expected, embedding)
    bias = None if bias_name is None else file.read(bias_name)
    check_matrix(name, weight, bias)
    _refuse_more_than_a_matrix(file, name, expected)
    _refuse_transposed(file, name, weight, embedding, expected)

    check_size(file, name, weight, embedding)
    tied, tying = _tying(file, weight, head, embedding, expected)
    tokenizer = None
    if strings is None:
        tokenizer = load_tokenizer(source.folder)
        strings = None if tokenizer is None else token_strings(tokenizer)
    apart = head is not None and embedding is not None and not tied
    here = isinstance(source.folder, LocalFolder)
    rest: dict[str, Any] = {
        "name": name,
        "tied": tied,
        "tying": tying,
        "tokens": strings,
        "model": source.display,
        "form": expected.form,
        "tokenizer": None if tokenizer is None else lambda: tokenizer,
        "input_weight": partial(file.read, embedding) if apart and here else None,
    }
    quantized = file.quantized(name)
    if quantized is None:
        return HeadWeights.of(weight, bias, **rest)
    return HeadWeights(
        weight=weight,
        bias=bias,
        dtype=quantized.dtype,
        rounding=quantized.rounding,
        sha256=file.sha256(name),
        **rest,
    )


def _tying(
    file: DecodedFile,
    weight: Tensor,
    head: str | None,
    embedding: str | None,
    expected: ExpectedHead,
) -> tuple[bool, str]:
    if head is None or embedding is None:
        return describe_tying(head, embedding, False, expected.tied)
    kinds = file.dtype(head), file.dtype(embedding)
    if kinds[0] != kinds[1] and (file.quantized(head) or file.quantized(embedding)):
        return False, stored_differently(head, embedding, *kinds)
    same = kinds[0] == kinds[1] and same_numbers(weight, file, embedding)
    return describe_tying(head, embedding, same, expected.tied)


def _refuse_more_than_a_matrix(file: TensorFile, name: str, expected: ExpectedHead) -> None:
    """Parts of a head or memory of wideneck, or of an adapter, of which no config says anything."""
    if expected.form.is_ours or not name.endswith(".weight"):
        return
    module = name.removesuffix("weight")
    more = [
        other
        for other in file.names()
        if other.startswith((module, MEMORY)) and other not in (name, f"{module}bias")
    ]
    if more:
        raise WideneckError(
            f"Beside {name} the checkpoint holds {listed(more)}, so that its head does more than a "
            "matrix, and config.json says nothing of it: give the config.json that was saved with "
            "it, or merge an adapter before."
        )


def _refuse_missing_parts(source: Source, head: str | None, expected: ExpectedHead) -> None:
    """A head that no part holds may be in one that is not there, unless the config says tied."""
    missing = missing_parts(source.file, source.folder.names())
    if head is None and missing and not expected.tied:
        raise WideneckError(
            f"{source.file} is one part of several, and no part in {source.folder} holds a head: "
            f"{', '.join(missing)} missing; download all of them and their index."
        )


def _refuse_transposed(
    file: TensorFile, name: str, weight: Tensor, embedding: str | None, expected: ExpectedHead
) -> None:
    """Without a config nothing says that the rows are the vocabulary, so shapes must."""
    shape = tuple(weight.shape)
    beside = None if embedding is None else file.shape(embedding)
    if beside is not None and shape != beside and shape == beside[::-1]:
        raise WideneckError(
            f"{name} has shape {shape} and {embedding} {beside}: one of them is transposed (rows "
            "must be the vocabulary), so store it the other way."
        )
    if expected.vocab_size is None and beside != shape and shape[0] < shape[1]:
        raise WideneckError(
            f"{name} has shape {shape}, fewer rows than columns, and no config.json "
            "says that the rows are the vocabulary: if it is transposed, store it the other way."
        )


def _no_head(file: TensorFile, source: Source, expected: ExpectedHead) -> WideneckError:
    names = file.names()
    return WideneckError(
        f"{source.file} of {source.folder} holds neither {expected.weight or 'a head'} nor "
        f"{expected.embedding or 'an embedding'} with {expected.vocab_size} rows, but "
        f"{len(names)} other tensors such as {listed(names[:1]) or 'none'}: the weights and the "
        "config do not belong together."
    )
