"""Packed integers of compressed-tensors.

    weight_packed      int32 (V, W): the codes of a row, 2^(bits - 1) added, as `packing` packs
    weight_shape       V and D
    weight_scale       one number, V x 1, or V x C for groups of D / C columns
    weight_zero_point  packed along the rows where it is int32 and there are groups or channels

w = (q - zero) * scale, q and zero as they were before 2^(bits - 1) was added.
"""

import torch

from wideneck.models.quantized.eight_bits import as_grid
from wideneck.models.quantized.matrix import (
    Grid,
    QuantizedMatrix,
    grid,
    middle,
    of_bits,
    scaled,
)
from wideneck.models.quantized.packing import WORD, num_words, unpack
from wideneck.models.quantized.stored import StoredMatrix


def read_packed_integers(stored: StoredMatrix) -> QuantizedMatrix:
    """1 to 8 bits a number, which the width of a packed row gives away."""
    shape = _shape(stored)
    bits = _bits(stored, shape)
    offset = 1 << (bits - 1)
    values = as_grid(stored.scales("weight_scale"), shape)
    if values is None or values.shape[1] > shape[1] or shape[1] % values.shape[1]:
        raise stored.refused(
            f"weight_scale has shape {stored.shape('weight_scale')} for a weight of {shape}"
        )
    block = (shape[0] if len(values) == 1 else 1, shape[1] // values.shape[1])
    groups = {size for size in stored.said_of_weights("group_size") if type(size) is int}
    if values.shape[1] > 1 and groups and block[1] not in groups:
        raise stored.refused(
            f"weight_scale has groups of {block[1]} columns, and config.json says {sorted(groups)}"
        )
    scales = grid(stored, "weight_scale", values, shape, block)

    def codes(start: int, stop: int) -> torch.Tensor:
        words = stored.rows("weight_packed", start, stop)
        return (unpack(words, bits, shape[1]) - offset).to(torch.float32)

    return QuantizedMatrix(
        shape=shape,
        dtype=f"int{bits}",
        rounding=of_bits(bits),
        rows=scaled(codes, scales, _zeros(stored, shape, block, bits)),
        typical_scale=middle(values),
        parts=tuple(
            sorted(
                {"weight_packed", "weight_shape", "weight_scale", "weight_zero_point"}
                & stored.parts
            )
        ),
    )


def _shape(stored: StoredMatrix) -> tuple[int, int]:
    packed = stored.shape("weight_packed")
    if stored.shape("weight_shape") != (2,) or len(packed) != 2:
        raise stored.refused(f"weight_shape has shape {stored.shape('weight_shape')}")
    if stored.dtype("weight_shape").is_floating_point:
        raise stored.refused("weight_shape is not of whole numbers")
    sides = stored.whole("weight_shape").tolist()
    if sides[0] != packed[0]:
        raise stored.refused(f"weight_shape says {sides}, and weight_packed has shape {packed}")
    return int(sides[0]), int(sides[1])


def _bits(stored: StoredMatrix, shape: tuple[int, int]) -> int:
    """The one number of bits that fits, among those that the config says if it says any.

    A writer that leaves the rest of a word empty puts four numbers of 7 bits into one, as if they
    had 8; the config alone tells that from dense words of 8.
    """
    words = stored.shape("weight_packed")[1]
    said = [bits for bits in stored.said_of_weights("num_bits") if type(bits) is int]
    fitting = {bits for bits in range(1, 9) if num_words(bits, shape[1]) == words}
    if said:
        fitting.intersection_update(said)
    if len(fitting) != 1 or stored.dtype("weight_packed") != torch.int32:
        of = f" of {sorted(set(said))} bits, as config.json says" if said else ""
        raise stored.refused(f"{words} words of {WORD} bits in a row of {shape[1]} numbers{of}")
    return fitting.pop()


def _zeros(
    stored: StoredMatrix, shape: tuple[int, int], block: tuple[int, int], bits: int
) -> Grid | None:
    if "weight_zero_point" not in stored.parts:
        return None
    zero = stored.whole("weight_zero_point")
    if zero.dtype == torch.int32:
        if zero.ndim != 2 or len(zero) != num_words(bits, shape[0]):
            raise stored.refused(f"weight_zero_point has shape {tuple(zero.shape)}")
        zero = unpack(zero.T.contiguous(), bits, shape[0]).T - (1 << (bits - 1))
    zeros = as_grid(zero.to(torch.float32), shape)
    if zeros is None:
        raise stored.refused(f"weight_zero_point has shape {tuple(zero.shape)}")
    return grid(stored, "weight_zero_point", zeros, shape, block)
