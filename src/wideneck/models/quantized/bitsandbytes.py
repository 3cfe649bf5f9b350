"""bitsandbytes: nf4, fp4 and LLM.int8.

weight                       U8 (N/2, 1): N = V D numbers in a row, the first in the high nibble
weight.absmax                one number for each `blocksize` of them
weight.quant_map             the 16 numbers that a nibble stands for
weight.quant_state.bitsandbytes__nf4 (or __fp4): JSON as bytes: shape, blocksize, dtype, ...
weight.nested_absmax, weight.nested_quant_map: where absmax is U8 itself:
                             absmax = map[absmax] * nested_absmax + nested_offset
w = quant_map[nibble] * absmax

LLM.int8: weight I8 (V, D), SCB (V,): w = code * SCB / 127
"""

import json
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from wideneck.models.quantized.matrix import QuantizedMatrix, middle, of_bits
from wideneck.models.quantized.stored import StoredMatrix

STATE = "weight.quant_state.bitsandbytes__"
LARGEST_STATE = 2**16
"""Bytes of its JSON; it has some 200."""
INT8 = 7.874015718698502e-3
"""1 / 127 as the library multiplies by it."""


def read_four_bits(stored: StoredMatrix) -> QuantizedMatrix:
    """The nf4 and fp4 types."""
    kind = "nf4" if f"{STATE}nf4" in stored.parts else "fp4"
    state = _state(stored, f"{STATE}{kind}")
    num_rows, num_columns = shape = _shape(stored, state)
    size = _whole(stored, state, "blocksize")
    absmax = _absmax(stored, state)
    table = stored.floats("weight.quant_map").flatten()
    if len(table) != 16 or not table.isfinite().all() or table.abs().max() != 1:
        raise stored.refused("weight.quant_map is not 16 numbers of which the largest is 1")
    numbers = num_rows * num_columns
    if len(absmax) != -(-numbers // size):
        raise stored.refused(f"{len(absmax)} scales for {numbers} numbers in blocks of {size}")
    if stored.dtype("weight") != torch.uint8 or math.prod(stored.shape("weight")) != -(
        -numbers // 2
    ):
        raise stored.refused(f"weight of shape {stored.shape('weight')} for a matrix of {shape}")
    if stored.shape("weight")[0] == 1:
        raise stored.refused("weight is packed in one row")
    byte = torch.arange(256)
    pairs = torch.stack((table[byte >> 4], table[byte & 15]), dim=1)

    def rows(start: int, stop: int) -> Tensor:
        first, last = start * num_columns, stop * num_columns
        packed = stored.rows("weight", first // 2, -(-last // 2)).flatten()
        values = embedding(packed.to(torch.int32), pairs).flatten()
        values = values[first % 2 :][: last - first]
        scales = absmax[torch.arange(first, last) // size]
        return (values * scales).reshape(stop - start, num_columns)

    parts = {x for x in stored.parts if x.startswith("weight")}
    return QuantizedMatrix(
        shape=shape,
        dtype=kind,
        rounding=of_bits(4),
        rows=rows,
        typical_scale=middle(absmax),
        parts=tuple(sorted(parts)),
    )


def read_int8(stored: StoredMatrix) -> QuantizedMatrix:
    """The layout of LLM.int8; others than row by row are refused."""
    sides = stored.shape("weight")
    scales = stored.scales("SCB", of_zero=True).flatten()
    if stored.dtype("weight") != torch.int8 or len(sides) != 2 or len(scales) != sides[0]:
        raise stored.refused(f"weight of shape {sides} beside {len(scales)} scales in SCB")
    if "weight_format" in stored.parts and stored.whole("weight_format").any():
        raise stored.refused("weight_format is not that of plain rows")

    def rows(start: int, stop: int) -> Tensor:
        codes = stored.rows("weight", start, stop).to(torch.float32)
        return codes * scales[start:stop, None] * INT8

    return QuantizedMatrix(
        shape=(sides[0], sides[1]),
        dtype="int8",
        rounding=of_bits(8),
        rows=rows,
        typical_scale=middle(scales) / 127,
        parts=("SCB", "weight"),
    )


def _state(stored: StoredMatrix, part: str) -> dict[str, Any]:
    size = math.prod(stored.shape(part))
    if size > LARGEST_STATE or stored.dtype(part) != torch.uint8:
        raise stored.refused(f"{part} has {size} bytes")
    try:
        state = json.loads(bytes(stored.whole(part).tolist()))
    except (ValueError, RecursionError) as error:
        raise stored.refused(f"{part} is no JSON") from error
    if not isinstance(state, dict):
        raise stored.refused(f"{part} is no JSON object")
    return state


def _shape(stored: StoredMatrix, state: dict[str, Any]) -> tuple[int, int]:
    sides = state.get("shape")
    if not isinstance(sides, list) or [type(x) for x in sides] != [int, int] or min(sides) < 1:
        raise stored.refused(f"its quant_state says shape {sides!r:.40}")
    return sides[0], sides[1]


def _whole(stored: StoredMatrix, state: dict[str, Any], key: str) -> int:
    value = state.get(key)
    if type(value) is not int or value < 1:
        raise stored.refused(f"its quant_state says {key} {value!r:.40}")
    return value


def _absmax(stored: StoredMatrix, state: dict[str, Any]) -> Tensor:
    """One scale a block; a block of zeros has the scale 0."""
    if "weight.nested_absmax" not in stored.parts:
        return stored.scales("weight.absmax", of_zero=True).flatten()
    codes = stored.whole("weight.absmax").flatten()
    table = stored.floats("weight.nested_quant_map").flatten()
    nested = stored.scales("weight.nested_absmax", of_zero=True).flatten()
    size = _whole(stored, state, "nested_blocksize")
    offset = state.get("nested_offset")
    if codes.dtype != torch.uint8 or len(table) != 256 or len(nested) != -(-len(codes) // size):
        raise stored.refused("its scales are packed in another way than bytes of a map of 256")
    if not isinstance(offset, float | int) or not math.isfinite(offset):
        raise stored.refused(f"its quant_state says nested_offset {offset!r:.40}")
    blocks = torch.arange(len(codes)) // size
    absmax = table[codes.to(torch.int64)] * nested[blocks]
    absmax = absmax + torch.tensor(float(offset), dtype=torch.float32)
    if not absmax.isfinite().all():
        raise stored.refused("its scales are no numbers")
    return absmax
