"""What every head must satisfy before a number is computed from it.

All passes go over blocks of rows, so that no second copy of a large matrix is ever made.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from wideneck.errors import WideneckError

FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""What a head can be stored as, by its name in .safetensors and .gguf files.  Everything else is a
quantized or packed layer, whose numbers mean nothing without their scales."""
STORED = FLOATS | {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
"""What the parts of a quantized matrix can be stored as besides, by its name in .safetensors."""
BLOCK = 8 * 2**20
"""Bytes per block."""


def dtype_name(dtype: torch.dtype | str) -> str:
    """Torch's name of a type, without its module; a file's own where it is none of `FLOATS`."""
    known = dtype if isinstance(dtype, torch.dtype) else FLOATS.get(dtype, dtype)
    return str(known).removeprefix("torch.")


def check_dtype(name: str, dtype: str) -> None:
    """Refuse integers and packed formats, by their names in torch."""
    if dtype not in map(dtype_name, FLOATS):
        raise WideneckError(
            f"{name} is stored as {dtype}, a quantized form that means nothing without its scales: "
            "give the original checkpoint or a GGUF file."
        )


def check_matrix(name: str, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse what is no matrix of vocabulary rows, or holds a value that is no number.

    Cost: one pass over the numbers.
    """
    check_dtype(name, dtype_name(weight.dtype))
    shape = tuple(weight.shape)
    check_sides(name, shape)
    if 0 in shape:
        raise WideneckError(f"{name} is empty: its shape is {shape}.")
    check_finite(name, weight)
    if bias is None:
        return
    if tuple(bias.shape) != shape[:1]:
        raise WideneckError(
            f"The bias of {name} should have shape ({shape[0]},), it has {tuple(bias.shape)}."
        )
    check_finite(f"The bias of {name}", bias)


def check_sides(name: str, shape: tuple[int, ...]) -> None:
    """Refuse the shape of what is no matrix."""
    if len(shape) != 2:
        raise WideneckError(
            f"{name} should be a matrix (vocabulary, hidden size), it has shape {shape}."
        )


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity, with how many there are and where they begin."""
    count, first = 0, None
    for start, block in blocks(tensor):
        wrong = ~torch.isfinite(block)
        if wrong.any():
            count += int(wrong.sum())
            if first is None:
                first = start + int(wrong.reshape(len(block), -1).any(1).nonzero()[0])
    if count:
        raise WideneckError(
            f"{name} holds {count} NaN or infinite value{'s' if count > 1 else ''} (first in row "
            f"{first} of {len(tensor)}): the checkpoint is damaged or its training diverged, so "
            "there is nothing to measure."
        )


def sha256_of(tensor: Tensor) -> str:
    """Hash of the bytes as a file stores them: row after row in the tensor's own type."""
    digest = hashlib.sha256()
    for _, block in blocks(tensor):
        digest.update(stored_bytes(block).numpy().data)
    return digest.hexdigest()


def stored_bytes(block: Tensor) -> Tensor:
    """The same memory as bytes; a copy only where the rows are not contiguous."""
    return block.contiguous().flatten().view(torch.uint8)


def blocks(tensor: Tensor, size: int = BLOCK) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows of about `size` bytes, each with the number of its first row."""
    rows = max(1, size // max(1, tensor[:1].numel() * tensor.element_size()))
    for start in range(0, len(tensor), rows):
        yield start, tensor[start : start + rows]
