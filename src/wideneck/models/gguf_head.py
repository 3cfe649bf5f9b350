"""Reads the output layer of a GGUF file, dequantizing that one tensor.

GGUF names are fixed by the format: `output.weight`, else `token_embd.weight` serves as both
(tied).  Quantized blocks become float32; float types stay what they are.
Cost: the file's index of tensors and token strings (a second or so), then the head once.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason
from wideneck.models.checks import check_matrix
from wideneck.models.head_weights import HeadWeights
from wideneck.models.source import shortened
from wideneck.models.tying import describe_tying

HEAD, BIAS, EMBEDDING = "output.weight", "output.bias", "token_embd.weight"
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
BLOCK = 2 * 2**20
"""Numbers dequantized at a time."""


def read_gguf_head(path: Path, display: str, tokens: list[str | None] | None) -> HeadWeights:
    """The output layer of one GGUF file; token strings from its metadata unless given."""
    reader = _open(path)
    _refuse_other_kinds(reader, path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    head, embedding = tensors.get(HEAD), tensors.get(EMBEDDING)
    stored = head if head is not None else embedding
    if stored is None:
        raise WideneckError(
            f"{path.name} holds neither {HEAD} nor {EMBEDDING}, so it is no whole language model; "
            f"found {shortened(list(tensors)) or 'no tensor'}."
        )
    kind = stored.tensor_type.name
    weight = _numbers(stored, path)
    bias = tensors.get(BIAS)
    bias = None if bias is None or head is None else _numbers(bias, path)
    check_matrix(stored.name, weight, bias)
    tied, tying = _tying(head, embedding)
    return HeadWeights(
        weight=weight,
        bias=bias,
        name=stored.name,
        dtype=str(FLOATS[kind]).removeprefix("torch.") if kind in FLOATS else kind,
        rounding=_rounding(kind),
        tied=tied,
        tying=tying,
        sha256=hashlib.sha256(_bytes(stored).data).hexdigest(),
        tokens=_tokens(reader) if tokens is None else tokens,
        model=display,
    )


def _open(path: Path) -> Any:
    import gguf

    try:
        return gguf.GGUFReader(path)
    # The reader does not check what it reads: a file cut short or of another kind raises
    # whatever numpy, enum or the struct of the moment raises.
    except Exception as error:
        raise WideneckError(
            f"{path.name} is cut short, damaged or not a GGUF file "
            f"({type(error).__name__}: {reason(error)}): download it again."
        ) from error


def _refuse_other_kinds(reader: Any, path: Path) -> None:
    """A part of a split model, an encoder or an encoder-decoder."""
    architecture = _value(reader, "general.architecture")
    if (_value(reader, "split.count") or 1) > 1:
        raise WideneckError(
            f"{path.name} is one part of a split model: join the parts with "
            "`llama-gguf-split --merge` first."
        )
    encoder = _value(reader, f"{architecture}.attention.causal") is False
    if encoder or _value(reader, f"{architecture}.decoder_start_token_id") is not None:
        raise WideneckError(
            f"{path.name} is a {architecture} model, which is not a causal language model."
        )


def _numbers(stored: Any, path: Path) -> Tensor:
    """The tensor's values: float types as they are, quantized blocks as float32."""
    import gguf

    kind = stored.tensor_type.name
    shape = tuple(int(size) for size in reversed(stored.shape))
    if kind in FLOATS:
        flat = torch.from_numpy(np.array(_bytes(stored)))  # a copy: the map is read-only
        return flat.view(FLOATS[kind]).reshape(shape)
    if len(shape) != 2:
        raise WideneckError(f"{stored.name} of {path.name} should be a matrix, it is {shape}.")
    weight = torch.empty(shape, dtype=torch.float32)
    rows = max(1, BLOCK // max(1, shape[1]))
    try:
        for start in range(0, shape[0], rows):
            block = np.asarray(stored.data[start : start + rows])
            weight[start : start + rows] = torch.from_numpy(
                gguf.dequantize(block, stored.tensor_type)
            )
    except NotImplementedError as error:  # how the gguf package says that it has no decoder
        raise WideneckError(
            f"{stored.name} of {path.name} is stored as {kind}, which the gguf package cannot "
            "dequantize: give a file with another quantization."
        ) from error
    return weight


def _tying(head: Any, embedding: Any) -> tuple[bool, str]:
    if head is None:
        return describe_tying(None, EMBEDDING, False, None)
    if embedding is None:
        return describe_tying(HEAD, None, False, None)
    if head.tensor_type != embedding.tensor_type:
        kinds = f"{head.tensor_type.name} and {embedding.tensor_type.name}"
        return False, (
            f"{HEAD} and {EMBEDDING} are stored as {kinds}, so their numbers differ, whether or "
            "not the original model was tied"
        )
    same = tuple(head.shape) == tuple(embedding.shape) and np.array_equal(
        _bytes(head), _bytes(embedding)
    )
    return describe_tying(HEAD, EMBEDDING, same, None)


def _rounding(kind: str) -> float:
    """Spacing of the stored numbers: of a block of b bits, 2**(3 - b) of the block's rms."""
    if kind in FLOATS:
        return torch.finfo(FLOATS[kind]).eps
    bits = re.search(r"\d", kind)  # Q4_K, IQ2_XXS, TQ1_0, MXFP4: the first digit is the bits
    assert bits is not None
    return 2.0 ** (3 - int(bits.group()))


def _tokens(reader: Any) -> list[str | None] | None:
    tokens = _value(reader, "tokenizer.ggml.tokens")
    return None if tokens is None else list(tokens)


def _value(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    try:
        return None if field is None else field.contents()
    except UnicodeDecodeError as error:
        raise WideneckError(
            f"The GGUF file's {key} is not valid UTF-8: the file is damaged, download it again."
        ) from error


def _bytes(stored: Any) -> np.ndarray:
    """The stored bytes, mapped."""
    return np.asarray(stored.data).reshape(-1).view(np.uint8)
