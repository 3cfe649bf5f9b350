"""GPTQ and AWQ, whose matrices stand the other way: columns of the file are rows of the head.

    GPTQ  qweight int32 (D bits / 32, V), packed along the inputs; g_idx (D,): the group of each
    AWQ   qweight int32 (D, V / 8), packed along the outputs, eight of them in the order `ORDER`
    both  scales (G, V); qzeros int32 (G, V bits / 32), packed along the outputs

w = (code - zero) * scale.  GPTQ stores zero - 1 in its first format, and zero itself in the second;
no tensor tells which, config.json does (`checkpoint_format`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from wideneck.models.quantized.matrix import Grid, QuantizedMatrix, middle, of_bits, scaled
from wideneck.models.quantized.packing import WORD, num_words, unpack
from wideneck.models.quantized.stored import StoredMatrix

ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in an AWQ word the first, second, ... of eight outputs stands."""
AWQ_BITS = 4
V1, V2 = "gptq", "gptq_v2"
AUTO_ROUND = {"auto_round:auto_gptq": V1, "auto_round:gptq": V1, "auto_round:gptqmodel": V2}
"""By its `packing_format`; AutoRound calls the first `zp+-1` (auto_round/inference/backend.py)."""


def read_transposed(stored: StoredMatrix) -> QuantizedMatrix:
    """GPTQ or AWQ, told apart by the direction in which the codes are packed."""
    for part in ("qweight", "qzeros"):
        if stored.dtype(part) != torch.int32 or len(stored.shape(part)) != 2:
            raise stored.refused(f"{part} is no matrix of int32")
    scales = stored.scales("scales", signed=True)  # AutoRound turns the sign of a group
    if scales.ndim != 2:
        raise stored.refused(f"scales have shape {tuple(scales.shape)}")
    num_rows = scales.shape[1]
    rows, columns = stored.shape("qweight")
    if columns == num_rows:
        return _gptq(stored, scales)
    if columns * WORD // AWQ_BITS == num_rows:
        return _awq(stored, scales)
    raise stored.refused(f"qweight has shape {(rows, columns)} beside {num_rows} columns of scales")


def _gptq(stored: StoredMatrix, scales: Tensor) -> QuantizedMatrix:
    if "g_idx" not in stored.parts:
        raise stored.refused("GPTQ without g_idx, which says how many inputs there are")
    group_of = stored.whole("g_idx").to(torch.int64)
    words = stored.shape("qweight")[0]
    num_columns = len(group_of)
    bits = words * WORD // num_columns if num_columns else 0
    if not 1 <= bits <= 8 or words != num_words(bits, num_columns):
        raise stored.refused(f"qweight has {words} words for {num_columns} inputs")
    if group_of.ndim != 1 or group_of.min() < 0 or group_of.max() >= len(scales):
        raise stored.refused(f"g_idx names groups that scales of {tuple(scales.shape)} have not")
    zeros = _zeros(stored, scales, bits)
    if _version(stored) == V1:
        last = (1 << bits) - 1
        if (zeros == last).any():
            raise stored.refused(f"qzeros hold {last}, to which readers add 1 in two ways")
        zeros = zeros + 1
    middle_code = 1 << (bits - 1)
    if stored.config.get("sym") is True and (zeros != middle_code).any():
        raise stored.refused(
            f"config.json says symmetric, and its zero points are not {middle_code} under its "
            "checkpoint_format"
        )

    def codes(start: int, stop: int) -> Tensor:
        packed = stored.whole("qweight")[:, start:stop].T.contiguous()
        return unpack(packed, bits, num_columns).to(torch.float32)

    return _matrix(stored, f"GPTQ int{bits}", bits, codes, (scales, zeros), group_of)


def _awq(stored: StoredMatrix, scales: Tensor) -> QuantizedMatrix:
    if "g_idx" in stored.parts or stored.config.get("version", "gemm") not in ("gemm", "GEMM"):
        raise stored.refused("AWQ is read in its GEMM version alone")
    num_columns, _ = stored.shape("qweight")
    if not len(scales) or num_columns % len(scales):
        raise stored.refused(f"{len(scales)} groups of {num_columns} inputs")
    group_of = torch.arange(num_columns) // (num_columns // len(scales))
    per_word = WORD // AWQ_BITS
    order = torch.tensor(ORDER)

    def codes(start: int, stop: int) -> Tensor:
        first, last = start // per_word, -(-stop // per_word)
        words = stored.whole("qweight")[:, first:last].contiguous()
        numbers = _in_order(words, order)[:, start - first * per_word :][:, : stop - start]
        return numbers.T.to(torch.float32)

    zeros = _in_order(stored.whole("qzeros"), order)
    if zeros.shape != scales.shape:
        raise stored.refused(f"qzeros have shape {stored.shape('qzeros')}")
    return _matrix(stored, "AWQ int4", AWQ_BITS, codes, (scales, zeros), group_of)


def _in_order(words: Tensor, order: Tensor) -> Tensor:
    """(N, 8 W) of (N, W) words of AWQ."""
    numbers = unpack(words, AWQ_BITS, words.shape[-1] * len(order))
    return numbers.unflatten(-1, (-1, len(order)))[..., order].flatten(-2)


def _zeros(stored: StoredMatrix, scales: Tensor, bits: int) -> Tensor:
    num_groups, num_rows = scales.shape
    if stored.shape("qzeros") != (num_groups, num_words(bits, num_rows)):
        raise stored.refused(
            f"qzeros have shape {stored.shape('qzeros')} beside scales of {tuple(scales.shape)}"
        )
    return unpack(stored.whole("qzeros"), bits, num_rows)


def _version(stored: StoredMatrix) -> str:
    """Which of the two formats: what config.json says, as no tensor does."""
    method = str(stored.config.get("quant_method", "")).lower()
    packing = str(stored.config.get("packing_format"))
    if method.endswith("auto-round") and packing in AUTO_ROUND:
        return AUTO_ROUND[packing]
    said = stored.config.get("checkpoint_format") or V1
    if method != "gptq" or said not in (V1, V2):
        raise stored.refused(
            "GPTQ has two formats, and no config.json says by quant_method gptq and "
            "checkpoint_format which one this is"
        )
    return said


def _matrix(
    stored: StoredMatrix,
    name: str,
    bits: int,
    codes: Callable[[int, int], Tensor],
    of_groups: tuple[Tensor, Tensor],
    group_of: Tensor,
) -> QuantizedMatrix:
    scales, zeros = (x.to(torch.float32).T.contiguous() for x in of_groups)
    parts = {"qweight", "qzeros", "scales", "g_idx"} & stored.parts
    return QuantizedMatrix(
        shape=(len(scales), len(group_of)),
        dtype=name,
        rounding=of_bits(bits),
        rows=scaled(codes, Grid(scales, 1, group_of), Grid(zeros, 1, group_of)),
        typical_scale=middle(scales),
        parts=tuple(sorted(parts)),
    )
