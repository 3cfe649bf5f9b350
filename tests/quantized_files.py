"""Quantized matrices written by hand, number by number, as the formats are described.

Nothing here is shared with the reader: bits are put into words by loops over Python integers, and
what a matrix decodes to is computed in float64 and rounded to float32 once for every product.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
]
"""Dettmers et al. 2023 (QLoRA), appendix E."""


@dataclass
class Written:
    """The parts of a matrix, what it decodes to, and what its config says."""

    parts: dict[str, torch.Tensor]
    weight: np.ndarray
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = ""
    scales: tuple[str, ...] = ("weight_scale",)


def write(folder, written, module="lm_head", embedding=None, **config):
    """A checkpoint with the head alone, or with an embedding; `config` goes into config.json."""
    tensors = {f"{module}.{part}": x.contiguous() for part, x in written.parts.items()}
    if embedding is not None:
        tensors["model.embed_tokens.weight"] = embedding
    save_file(tensors, folder / "model.safetensors")
    said = {"model_type": "never-heard-of", "vocab_size": written.weight.shape[0]}
    said |= {"quantization_config": written.config} if written.config else {}
    (folder / "config.json").write_text(json.dumps(said | config))
    return folder


def f32(values):
    return np.asarray(values, dtype=np.float32)


def product(code, scale):
    """One product, rounded to float32 once: the float64 product of two float32 is exact."""
    return np.float32(np.float64(code) * np.float64(scale))


def multiplied(codes, scale_of):
    """(V, D) of codes times scale_of(i, j)."""
    rows, columns = codes.shape
    return f32(
        [[product(codes[i, j], scale_of(i, j)) for j in range(columns)] for i in range(rows)]
    )


def random_scales(rng, shape, dtype=torch.float32):
    """Some thousandths, as a head of a model has for eight bits; exact in `dtype`."""
    return torch.from_numpy(f32(rng.uniform(0.001, 0.004, shape))).to(dtype)


def packed_bits(numbers, bits):
    """Words of 32 bits, as int32, of one row of whole numbers, the lowest bits first."""
    stream = 0
    for place, number in enumerate(numbers):
        assert 0 <= number < 1 << bits
        stream |= int(number) << (place * bits)
    words = [(stream >> (32 * i)) & 0xFFFFFFFF for i in range(math.ceil(len(numbers) * bits / 32))]
    return [word - (1 << 32) if word >= 1 << 31 else word for word in words]


def packed_rows(matrix, bits):
    return torch.tensor([packed_bits(row, bits) for row in matrix], dtype=torch.int32)


# FP8 and integers of eight bits


def fp8(rng, rows, columns, blocks, name="weight_scale_inv", kind=torch.float8_e4m3fn):
    """Codes of every size; `blocks` are the rows and columns of a block of one scale."""
    weight = torch.from_numpy(f32(rng.standard_normal((rows, columns)) * 100)).to(kind)
    height, width = blocks
    scales = random_scales(rng, (math.ceil(rows / height), math.ceil(columns / width)))
    codes, of = weight.to(torch.float64).numpy(), scales.numpy()
    return Written(
        {"weight": weight, name: scales},
        multiplied(codes, lambda i, j: of[i // height, j // width]),
        {"quant_method": "fp8", "weight_block_size": [height, width]},
        f"FP8 ({'e4m3' if kind == torch.float8_e4m3fn else 'e5m2'})",
        (name,),
    )


def int8(rng, rows, columns, zeros=False):
    """A scale a row, and perhaps a zero."""
    codes = rng.integers(-128, 128, (rows, columns))
    scales = random_scales(rng, (rows, 1))
    zero = rng.integers(-20, 20, (rows, 1))
    parts = {"weight": torch.from_numpy(codes.astype(np.int8)), "weight_scale": scales}
    if zeros:
        parts["weight_zero_point"] = torch.from_numpy(zero.astype(np.int8))
        codes = codes - zero
    of = scales.numpy()
    return Written(parts, multiplied(codes, lambda i, j: of[i, 0]), {}, "int8")


# Integers of fewer bits, packed along the columns


def packed_integers(rng, rows, columns, bits, group=None, zeros=False):
    group = group or columns
    half = 1 << (bits - 1)
    codes = rng.integers(-half, half, (rows, columns))
    scales = random_scales(rng, (rows, columns // group)) * (1 << (8 - bits))
    zero = rng.integers(-half, half, scales.shape)
    parts = {
        "weight_packed": packed_rows(codes + half, bits),
        "weight_scale": scales,
        "weight_shape": torch.tensor([rows, columns]),
    }
    of = scales.numpy()
    if zeros:
        parts["weight_zero_point"] = packed_rows((zero + half).T, bits).T
        codes = np.array(
            [[c - zero[i, j // group] for j, c in enumerate(row)] for i, row in enumerate(codes)]
        )
    config = {"config_groups": {"group_0": {"weights": {"num_bits": bits}}}}
    return Written(parts, multiplied(codes, lambda i, j: of[i, j // group]), config, f"int{bits}")


# Floats of four bits


def nibbles(rng, rows, columns):
    """Codes 0 to 15, their bytes with the even column low, and what they stand for."""
    codes = rng.integers(0, 16, (rows, columns))
    packed = [[row[j] | row[j + 1] << 4 for j in range(0, columns, 2)] for row in codes]
    values = [[(-1) ** (code >> 3) * E2M1[code & 7] for code in row] for row in codes]
    return torch.tensor(np.array(packed, dtype=np.uint8)), np.array(values)


def nvfp4(rng, rows, columns, divides):
    """As compressed-tensors writes it, which divides by the scale of all, or ModelOpt."""
    packed, values = nibbles(rng, rows, columns)
    scales = torch.from_numpy(f32(rng.uniform(20, 448, (rows, columns // 16))))
    scales = scales.to(torch.float8_e4m3fn)
    of = scales.to(torch.float32).numpy()
    if divides:
        total = np.float32(9137.0)
        parts = {
            "weight_packed": packed,
            "weight_scale": scales,
            "weight_global_scale": torch.tensor([float(total)]),
            "input_global_scale": torch.tensor([3.0]),
        }
        weight = multiplied(values, lambda i, j: of[i, j // 16] / total)
    else:
        total = np.float32(0.000109)
        parts = {
            "weight": packed,
            "weight_scale": scales,
            "weight_scale_2": torch.tensor(float(total)),
            "input_scale": torch.tensor(0.2),
        }
        weight = multiplied(values, lambda i, j: of[i, j // 16] * total)
    last = "weight_global_scale" if divides else "weight_scale_2"
    return Written(parts, weight, {}, "NVFP4", (last,))


def mxfp4(rng, rows, columns, codes="weight_packed", scale="weight_scale"):
    packed, values = nibbles(rng, rows, columns)
    exponents = rng.integers(118, 124, (rows, columns // 32)).astype(np.uint8)
    parts = {codes: packed, scale: torch.from_numpy(exponents)}
    weight = multiplied(values, lambda i, j: 2.0 ** (int(exponents[i, j // 32]) - 127))
    return Written(parts, weight, {}, "MXFP4", (scale,))


# bitsandbytes


def bits_and_bytes(rng, rows, columns, nested=False, block=64):
    """nf4; the flattened numbers in blocks, the first of two in the high nibble."""
    count = rows * columns
    codes = rng.integers(0, 16, count + count % 2)
    blocks = math.ceil(count / block)
    state: dict[str, Any] = {
        "quant_type": "nf4",
        "blocksize": block,
        "dtype": "bfloat16",
        "shape": [rows, columns],
    }
    packed = [codes[i] << 4 | codes[i + 1] for i in range(0, len(codes), 2)]
    parts = {
        "weight": torch.tensor(np.array(packed, dtype=np.uint8))[:, None],
        "weight.quant_map": torch.tensor(NF4),
    }
    absmax = f32(rng.uniform(0.05, 0.2, blocks))
    if nested:
        table = np.sort(f32(rng.uniform(-1, 1, 256)))
        chosen = rng.integers(0, 256, blocks)
        outer = f32(rng.uniform(0.01, 0.02, math.ceil(blocks / 256)))
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.1}
        parts |= {
            "weight.absmax": torch.tensor(chosen.astype(np.uint8)),
            "weight.nested_absmax": torch.from_numpy(outer),
            "weight.nested_quant_map": torch.from_numpy(table),
        }
        absmax = f32(
            [product(table[c], outer[i // 256]) + np.float32(0.1) for i, c in enumerate(chosen)]
        )
    else:
        parts["weight.absmax"] = torch.from_numpy(absmax)
    text = json.dumps(state).encode()
    parts["weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
    map32 = f32(NF4)
    flat = [product(map32[codes[i]], absmax[i // block]) for i in range(count)]
    of = "weight.nested_absmax" if nested else "weight.absmax"
    return Written(parts, f32(flat).reshape(rows, columns), {}, "nf4", (of,))


# GPTQ and AWQ: the file's columns are the head's rows


def gptq(rng, rows, columns, bits, version="gptq", group=32, order=False):
    groups = math.ceil(columns / group)
    codes = rng.integers(0, 1 << bits, (rows, columns))
    zeros = rng.integers(1, 1 << bits, (groups, rows))
    scales = random_scales(rng, (groups, rows), torch.float16)
    of_input = np.arange(columns) // group
    if order:
        of_input = rng.permutation(of_input)
    stored = zeros - 1 if version == "gptq" else zeros
    parts = {
        "qweight": packed_rows(codes, bits).T,
        "qzeros": packed_rows(stored, bits),
        "scales": scales,
        "g_idx": torch.tensor(of_input, dtype=torch.int32),
    }
    of = scales.to(torch.float32).numpy()
    differences = np.array(
        [[codes[i, j] - zeros[of_input[j], i] for j in range(columns)] for i in range(rows)]
    )
    config = {"quant_method": "gptq", "bits": bits, "checkpoint_format": version}
    weight = multiplied(differences, lambda i, j: of[of_input[j], i])
    return Written(parts, weight, config, f"GPTQ int{bits}", ("scales",))


def awq(rng, rows, columns, group=32):
    """Output 8 k + n of a word is in nibble n / 2 for even n, and in 4 + n / 2 for odd ones."""
    codes = rng.integers(0, 16, (rows, columns))
    zeros = rng.integers(0, 16, (columns // group, rows))
    scales = random_scales(rng, zeros.shape, torch.float16)

    def words(matrix):
        found = []
        for row in matrix:
            numbers = []
            for first in range(0, len(row), 8):
                word = [0] * 8
                for n in range(8):
                    word[n // 2 if n % 2 == 0 else 4 + n // 2] = int(row[first + n])
                numbers += word
            found.append(packed_bits(numbers, 4))
        return torch.tensor(found, dtype=torch.int32)

    parts = {"qweight": words(codes.T), "qzeros": words(zeros), "scales": scales}
    of = scales.to(torch.float32).numpy()
    differences = np.array(
        [[codes[i, j] - zeros[j // group, i] for j in range(columns)] for i in range(rows)]
    )
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm"}
    weight = multiplied(differences, lambda i, j: of[j // group, i])
    return Written(parts, weight, config, "AWQ int4", ("scales",))


# One of each, of sizes that are no multiples of a block

ROWS, COLUMNS = 37, 96
LAYOUTS = {
    "fp8 tensor": lambda r: fp8(r, ROWS, COLUMNS, (ROWS, COLUMNS)),
    "fp8 row": lambda r: fp8(r, ROWS, COLUMNS, (1, COLUMNS), "weight_scale"),
    "fp8 block": lambda r: fp8(r, 139, 157, (128, 128)),
    "fp8 small block": lambda r: fp8(r, ROWS, COLUMNS, (8, 20)),
    "fp8 e5m2": lambda r: fp8(r, ROWS, COLUMNS, (ROWS, COLUMNS), kind=torch.float8_e5m2),
    "int8 row": lambda r: int8(r, ROWS, COLUMNS),
    "int8 row, zeros": lambda r: int8(r, ROWS, COLUMNS, zeros=True),
    **{f"int{b} packed": lambda r, b=b: packed_integers(r, ROWS, 91, b) for b in range(2, 9)},
    "int4 groups": lambda r: packed_integers(r, ROWS, COLUMNS, 4, 16),
    "int3 groups, zeros": lambda r: packed_integers(r, ROWS, COLUMNS, 3, 32, zeros=True),
    "nvfp4 divided": lambda r: nvfp4(r, ROWS, 80, divides=True),
    "nvfp4 multiplied": lambda r: nvfp4(r, ROWS, 80, divides=False),
    "mxfp4": lambda r: mxfp4(r, ROWS, COLUMNS),
    "mxfp4 of transformers": lambda r: mxfp4(r, ROWS, COLUMNS, "weight", "weight_scale_inv"),
    "nf4": lambda r: bits_and_bytes(r, ROWS, 75),
    "nf4 nested": lambda r: bits_and_bytes(r, ROWS * 8, 75, nested=True),
    "gptq 4": lambda r: gptq(r, 40, 72, 4),
    "gptq 3, any order": lambda r: gptq(r, 64, 96, 3, order=True),
    "gptq 8, v2": lambda r: gptq(r, 40, 72, 8, "gptq_v2"),
    "awq": lambda r: awq(r, 40, COLUMNS),
}


def written(name):
    return LAYOUTS[name](np.random.default_rng(0))
