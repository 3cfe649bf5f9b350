"""Reads the output layer of a GGUF file, dequantizing that one tensor.

GGUF names are fixed by the format: `output.weight`, else `token_embd.weight` serves as both
(tied).  Quantized blocks become float32; float types stay what they are.  Where the model
is split, the parts that lie beside each other are searched.
Cost: the header (a tenth of a second), then the head once.
"""

import hashlib
import re
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.printable import listed
from wideneck.models.checks import FLOATS, check_matrix, dtype_name
from wideneck.models.folder import LocalFolder
from wideneck.models.gguf_header import MEND, GgufHeader, StoredTensor
from wideneck.models.head_weights import HeadWeights
from wideneck.models.parts import missing_parts, parts_beside
from wideneck.models.tying import describe_tying, stored_differently

TYPES = "tokenizer.ggml.token_type"
HEAD, BIAS, EMBEDDING = "output.weight", "output.bias", "token_embd.weight"
BLOCK = 2 * 2**20
"""Numbers dequantized at a time."""
MOST_PARTS = 1024
"""Missing parts that are counted; their names' digits allow a thousand times as many."""


class GgufParts:
    """The tensors of a GGUF model, as far as its parts lie beside each other.

    Every part has a header of its own; the first holds the metadata, and a tensor lies whole in one
    of them.

    Args:
        path: a file, whole or one of the parts.

    Raises:
        WideneckError: one of the headers is damaged; see `GgufHeader`.
    """

    def __init__(self, path: Path):
        named = GgufHeader(path)
        self._parts = {path.name: named}
        self.missing: list[str] = []
        """The names of the parts that are not there."""
        count: Any = named.metadata.get("split.count")
        self.is_split = type(count) is int and count > 1
        """Whether the model has more parts than this file."""
        if not self.is_split:
            return
        names = LocalFolder(path.parent).names()
        beside = parts_beside(path.name, names)
        self._parts |= {x: GgufHeader(path.with_name(x)) for x in beside if x != path.name}
        self.missing = missing_parts(path.name, names, MOST_PARTS)
        if not beside:
            self.missing = [f"its other {count - 1} parts, under the names that they had"]

    @cached_property
    def first(self) -> GgufHeader:
        """The part with the metadata, or the one that there is in its place."""
        return min(self._parts.items())[1]

    def names(self) -> list[str]:
        """The names of all tensors that are there."""
        return [name for part in self._parts.values() for name in part.tensors]

    def find(self, name: str) -> StoredTensor | None:
        """A tensor, in whichever part it lies."""
        found = (part.tensors[name] for part in self._parts.values() if name in part.tensors)
        return next(found, None)


def read_gguf_head(path: Path, display: str, tokens: list[str | None] | None) -> HeadWeights:
    """The output layer of a GGUF file; token strings from its metadata unless given.

    Raises:
        WideneckError: the file is damaged, of another kind, holds no head, or one with other rows
            than its tokens; a part of a split model that lacks the parts that hold the head.
    """
    parts = GgufParts(path)
    check_gguf(parts)
    head, embedding = parts.find(HEAD), parts.find(EMBEDDING)
    stored = embedding if head is None else head
    if head is None and parts.missing:
        raise WideneckError(
            f"{path.name} is one part of a split model, and neither it nor the parts beside it "
            f"hold {HEAD}: put {listed(parts.missing)} beside it, or join the parts with "
            "`llama-gguf-split --merge`."
        )
    if stored is None:
        raise WideneckError(
            f"{path.name} holds neither {HEAD} nor {EMBEDDING}, so it is no whole language model; "
            f"found {listed(parts.names()) or 'no tensor'}."
        )
    with reading(path.name, stored.name, MEND):
        weight = _numbers(stored)
        bias = parts.find(BIAS)
        bias = None if bias is None or head is None else _numbers(bias)
        check_matrix(stored.name, weight, bias)
        tied, tying = _tying(head, embedding)
        return HeadWeights(
            weight=weight,
            bias=bias,
            name=stored.name,
            dtype=dtype_name(stored.kind),
            rounding=_rounding(stored.kind),
            tied=tied,
            tying=tying,
            sha256=hashlib.sha256(stored.data.data).hexdigest(),
            tokens=parts.first.tokens if tokens is None else tokens,
            model=display,
            token_types=_types(parts.first),
            input_weight=None if tied or embedding is None else partial(_input_rows, embedding),
        )


def check_gguf(parts: GgufParts) -> None:
    """Refuse another kind of model, and a matrix that does not fit the tokens beside it.

    No padding is allowed for, as converters give padded rows tokens of their own: llama.cpp takes
    the number of rows from the tokens.

    Raises:
        WideneckError: it is an encoder or an encoder-decoder, or the head or the embedding has
            another number of rows than the tokenizer has tokens.
    """
    first = parts.first
    architecture = first.metadata.get("general.architecture")
    encoder = first.metadata.get(f"{architecture}.attention.causal") is False
    if encoder or f"{architecture}.decoder_start_token_id" in first.metadata:
        raise WideneckError(
            f"{first.path.name} is a {architecture} model, which is not a causal language model."
        )
    num_tokens = first.num_tokens
    if num_tokens is None:
        return
    for stored in (parts.find(HEAD), parts.find(EMBEDDING)):
        if stored is None or stored.shape[:1] in ((), (num_tokens,)):
            continue
        raise WideneckError(
            f"{stored.name} of {stored.file.path.name} has {stored.shape[0]:,} rows, and the "
            f"tokenizer {num_tokens:,} tokens: they do not belong together; {MEND}."
        )


def _numbers(stored: StoredTensor) -> Tensor:
    """The tensor's values: float types as they are, quantized blocks as float32."""
    import gguf

    shape = stored.shape
    data, title = stored.data, f"{stored.name} of {stored.file.path.name}"
    if stored.kind in FLOATS:
        flat = torch.from_numpy(np.array(data))  # a copy: the map is read-only
        return flat.view(FLOATS[stored.kind]).reshape(shape)
    if len(shape) != 2 or 0 in shape:
        raise WideneckError(f"{title} should be a matrix, it is {shape}.")
    data = data.reshape(shape[0], -1)
    weight = torch.empty(shape, dtype=torch.float32)
    rows = max(1, BLOCK // shape[1])
    kind = gguf.GGMLQuantizationType[stored.kind]
    try:
        for start in range(0, shape[0], rows):
            block = gguf.dequantize(data[start : start + rows], kind)
            weight[start : start + rows] = torch.from_numpy(block)
    except NotImplementedError as error:  # how the gguf package says that it has no decoder
        raise WideneckError(
            f"{title} is stored as {stored.kind}, which the gguf package cannot dequantize: give a "
            "file with another quantization."
        ) from error
    return weight


def _types(header: GgufHeader) -> list[int] | None:
    """The type of each token, where the file has one for each."""
    types = header.metadata.get(TYPES)
    if not isinstance(types, list | np.ndarray) or len(types) != header.num_tokens:
        return None
    return [int(kind) for kind in types]


def _input_rows(embedding: StoredTensor) -> Tensor:
    with reading(embedding.file.path.name, embedding.name, MEND):
        return _numbers(embedding)


def _tying(head: StoredTensor | None, embedding: StoredTensor | None) -> tuple[bool, str]:
    if head is None:
        return describe_tying(None, EMBEDDING, False, None)
    if embedding is None:
        return describe_tying(HEAD, None, False, None)
    if head.kind != embedding.kind:
        return False, stored_differently(HEAD, EMBEDDING, head.kind, embedding.kind)
    same = head.shape == embedding.shape and np.array_equal(head.data, embedding.data)
    return describe_tying(HEAD, EMBEDDING, same, None)


def _rounding(kind: str) -> float:
    """Spacing of the stored numbers: of a block of b bits, 2**(3 - b) of the block's rms."""
    if kind in FLOATS:
        return torch.finfo(FLOATS[kind]).eps
    bits = re.search(r"\d", kind)  # Q4_K, IQ2_XXS, TQ1_0, MXFP4: the first digit is the bits
    assert bits is not None
    return 2.0 ** (3 - int(bits.group()))
