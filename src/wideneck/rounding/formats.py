"""The formats that a report compares, by name: the registry."""

from wideneck.rounding.codes import E2M1, E4M3, E4M3_LARGEST, Integers, NormalFloats
from wideneck.rounding.floats import BFloat16
from wideneck.rounding.format import Format
from wideneck.rounding.gguf_blocks import GgufBlocks
from wideneck.rounding.grid import Grid
from wideneck.rounding.q6_k import Q6K
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
    Scaled(
        name="fp8 tensor",
        about="e4m3 under one float32 for all, as compressed-tensors",
        cut=_fp8(None, None),
    ),
    Scaled(
        name="fp8 row",
        about="e4m3 under one float32 a row, as compressed-tensors",
        cut=_fp8(1, None),
    ),
    Scaled(
        name="fp8 128x128",
        about="e4m3 under one float32 for 128 rows by 128 columns, as DeepSeek-V3 and "
        "compressed-tensors",
        cut=_fp8(128, 128),
    ),
    Scaled(
        name="int8 row",
        about="int8 under one float32 a row, the largest number as 127.5, as compressed-tensors",
        cut=Grid(codes=Integers(-128, 127), rows=1, columns=None, kind="float32", largest=127.5),
    ),
    GgufBlocks(name="Q8_0", about="8-bit integers under one float16 for 32, as gguf", cut=_gguf(8)),
    Q6K(),
    GgufBlocks(name="Q5_0", about="5-bit integers under one float16 for 32, as gguf", cut=_gguf(5)),
    GgufBlocks(name="Q4_0", about="4-bit integers under one float16 for 32, as gguf", cut=_gguf(4)),
    Flattened(
        name="nf4",
        about="16 normal quantiles under one float32 for 64, row after row, as bitsandbytes",
        cut=Grid(codes=NormalFloats(), rows=1, columns=64, kind="float32", largest=1.0),
    ),
    Scaled(
        name="NVFP4",
        about="e2m1 under one e4m3 for 16 and one float32 for all, as compressed-tensors",
        cut=Grid(codes=E2M1(), rows=1, columns=16, kind="e4m3", largest=6.0),
    ),
    Scaled(
        name="MXFP4",
        about="e2m1 under a power of two for 32, the OCP specification's, as gguf",
        cut=Grid(codes=E2M1(), rows=1, columns=32, kind="power of two", largest=6.0),
    ),
    Scaled(
        name="int4 g64",
        about="int4 under one bfloat16 for 64, the largest number as 7.5, as compressed-tensors",
        cut=Grid(codes=Integers(-8, 7), rows=1, columns=64, kind="bfloat16", largest=7.5),
    ),
]
FORMATS: dict[str, Format] = {one.name: one for one in _ALL}
"""In the order in which they are printed."""
