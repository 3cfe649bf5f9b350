"""The formats that a report compares, by name: the registry."""

from wideneck.rounding.codes import E2M1, E4M3, E4M3_LARGEST, Integers, NormalFloats
from wideneck.rounding.floats import BFloat16
from wideneck.rounding.format import Format
from wideneck.rounding.gguf_blocks import GgufBlocks
from wideneck.rounding.grid import Grid
from wideneck.rounding.scaled import Flattened, Scaled


def _fp8(rows: int | None, columns: int | None) -> Grid:
    return Grid(codes=E4M3(), rows=rows, columns=columns, kind="float32", largest=E4M3_LARGEST)


def _gguf(bits: int) -> Grid:
    half = 1 << (bits - 1)
    largest = 127 if bits == 8 else -half
    codes = Integers(-half, half - 1)
    return Grid(codes=codes, rows=1, columns=32, kind="float16", largest=largest)


_ALL: list[Format] = [
    BFloat16(),
    Scaled("fp8 tensor", "e4m3 under one float32 for all, as compressed-tensors", _fp8(None, None)),
    Scaled("fp8 row", "e4m3 under one float32 a row, as compressed-tensors", _fp8(1, None)),
    Scaled(
        "fp8 128x128",
        "e4m3 under one float32 for 128 rows by 128 columns, as compressed-tensors and DeepSeek",
        _fp8(128, 128),
    ),
    Scaled(
        "int8 row",
        "int8 under one float32 a row, the largest number as 127.5, as compressed-tensors",
        Grid(codes=Integers(-128, 127), rows=1, columns=None, kind="float32", largest=127.5),
    ),
    GgufBlocks("Q8_0", "int8 under one float16 for 32, as gguf", _gguf(8)),
    GgufBlocks("Q5_0", "5-bit integers under one float16 for 32, as gguf", _gguf(5)),
    GgufBlocks("Q4_0", "4-bit integers under one float16 for 32, as gguf", _gguf(4)),
    Flattened(
        "nf4",
        "16 normal quantiles under one float32 for 64, row after row, as bitsandbytes",
        Grid(codes=NormalFloats(), rows=1, columns=64, kind="float32", largest=1.0),
    ),
    Scaled(
        "NVFP4",
        "e2m1 under one e4m3 for 16 and one float32 for all, as compressed-tensors",
        Grid(codes=E2M1(), rows=1, columns=16, kind="e4m3", largest=6.0),
    ),
    Scaled(
        "MXFP4",
        "e2m1 under a power of two for 32, by the OCP specification",
        Grid(codes=E2M1(), rows=1, columns=32, kind="power of two", largest=6.0),
    ),
    Scaled(
        "int4 g64",
        "int4 under one bfloat16 for 64, the largest number as 7.5, as compressed-tensors",
        Grid(codes=Integers(-8, 7), rows=1, columns=64, kind="bfloat16", largest=7.5),
    ),
]
FORMATS: dict[str, Format] = {one.name: one for one in _ALL}
"""From the finest to the coarsest within each kind."""
