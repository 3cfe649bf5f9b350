"""Four-bit floats, two in a byte, the even column in the low nibble: NVFP4 and MXFP4.

    NVFP4, compressed-tensors  weight_packed U8 (V, D/2), weight_scale e4m3 (V, D/16),
                               weight_global_scale: w = code * (scale / global)
    NVFP4, ModelOpt            weight U8, weight_scale, weight_scale_2: w = code * (scale * scale_2)
    MXFP4                      weight_packed or weight U8 or I8, weight_scale or weight_scale_inv
                               (V, D/32): w = code * 2^(byte - 127)

The two NVFP4 writers store inverses of each other under different names.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding

from wideneck.models.quantized.eight_bits import is_power, powers
from wideneck.models.quantized.matrix import QuantizedMatrix, Rows, grid, middle, of_bits, scaled
from wideneck.models.quantized.stored import StoredMatrix
from wideneck.rounding.codes import MAGNITUDES

NVFP4_GROUP, MXFP4_GROUP = 16, 32


def read_nvfp4(stored: StoredMatrix) -> QuantizedMatrix:
    """NVFP4 in either convention, told apart by the names of the parts."""
    divides = "weight_global_scale" in stored.parts
    codes = "weight_packed" if divides else "weight"
    of_all = "weight_global_scale" if divides else "weight_scale_2"
    if stored.dtype("weight_scale") != torch.float8_e4m3fn:
        raise stored.refused("weight_scale of NVFP4 is not e4m3")
    shape = _shape(stored, codes)
    values, total = stored.scales("weight_scale"), stored.scales(of_all)
    stored.number(of_all)
    factors = values / total.flatten() if divides else values * total.flatten()
    return QuantizedMatrix(
        shape=shape,
        dtype="NVFP4",
        rounding=of_bits(4),
        rows=scaled(
            _pairs(stored, codes),
            grid(stored, "weight_scale", factors, shape, (1, NVFP4_GROUP)),
        ),
        typical_scale=1 / float(total) if divides else float(total),
        parts=(codes, "weight_scale", of_all),
    )


def read_mxfp4(stored: StoredMatrix) -> QuantizedMatrix:
    """MXFP4, under the names that compressed-tensors or transformers has for its parts."""
    codes = "weight_packed" if "weight_packed" in stored.parts else "weight"
    part = "weight_scale_inv" if "weight_scale_inv" in stored.parts else "weight_scale"
    shape = _shape(stored, codes)
    if not is_power(stored, part):
        raise stored.refused(
            f"{part} of four-bit floats should be exponents in bytes, unless weight_global_scale "
            "or weight_scale_2 stands beside it"
        )
    values = powers(stored, part)
    return QuantizedMatrix(
        shape=shape,
        dtype="MXFP4",
        rounding=of_bits(4),
        rows=scaled(_pairs(stored, codes), grid(stored, part, values, shape, (1, MXFP4_GROUP))),
        typical_scale=middle(values),
        parts=(codes, part),
    )


def is_packed(stored: StoredMatrix, part: str) -> bool:
    """Whether a byte holds two numbers, where an I8 could be one: its scales say how many."""
    if stored.dtype(part) == torch.uint8:
        return True
    scale = "weight_scale_inv" if "weight_scale_inv" in stored.parts else "weight_scale"
    return stored.dtype(part) == torch.int8 and is_power(stored, scale)


def _shape(stored: StoredMatrix, codes: str) -> tuple[int, int]:
    sides = stored.shape(codes)
    if len(sides) != 2 or stored.dtype(codes) not in (torch.uint8, torch.int8):
        raise stored.refused(f"{codes} is no matrix of bytes, its shape is {sides}")
    return sides[0], 2 * sides[1]


def _pairs(stored: StoredMatrix, codes: str) -> Rows:
    """Numbers of a block of rows; a byte is looked up as the pair that it stands for."""
    signed = torch.tensor([*MAGNITUDES, *(-x for x in MAGNITUDES)])
    byte = torch.arange(256)
    table = torch.stack((signed[byte & 15], signed[byte >> 4]), dim=1)

    def rows(start: int, stop: int) -> Tensor:
        pairs = stored.rows(codes, start, stop).view(torch.uint8)
        return embedding(pairs.to(torch.int32), table).flatten(1)

    return rows
