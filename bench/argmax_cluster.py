"""Heads with thousands of rows around one point, as never-trained rows lie, quantized.

PLACE of the point: "typical", at the distance of a typical row from the mean; "mean", near the
mean.  KIND: Q8_0, a GGUF file; or Q6_K, a safetensors file of the numbers that come back from its
blocks, because the format allows no rows of 896 and the gguf package does not write it.
150,000 x 896 Gaussian numbers with 3,000 rows at relative distances of 1e-3 to 1e-1.
"""

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

SHAPE = 150_000, 896, 3000
PLACES = {"typical": 1.0, "mean": 0.02}
SUFFIX = {"Q8_0": ".gguf", "Q6_K": ".safetensors"}


def planted(place: str, num_rows: int, width: int, members: int) -> np.ndarray:
    """The head in float32, members at random places."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((num_rows, width), dtype=np.float32)
    centre = PLACES[place] * generator.standard_normal(width)
    away = generator.standard_normal((members, width))
    away *= np.sqrt(width) / np.linalg.norm(away, axis=1, keepdims=True)
    distance = 10 ** generator.uniform(-3, -1, size=(members, 1))
    weight[generator.choice(num_rows, members, replace=False)] = centre + distance * away
    return 0.02 * weight


def through_q6_k(weight: np.ndarray) -> np.ndarray:
    """Rounded as in blocks of 256 numbers: x = d s q, d float16, s int8 for 16 numbers, |q| <= 32.

    The blocks run over the ends of rows where these are no multiple of 256.
    """
    groups = weight.reshape(-1, 16, 16)
    scale = np.abs(groups).max(2) / 32
    d = (scale.max(1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    s = np.clip(np.round(scale / np.where(d > 0, d, 1)), 1, 127)
    step = (d * s)[:, :, None]
    q = np.clip(np.round(groups / np.where(step > 0, step, 1)), -32, 31)
    return (step * q).reshape(weight.shape).astype(np.float32)


def write(file: str, place: str, kind: str, num_rows: int, width: int, members: int) -> None:
    weight = planted(place, num_rows, width, members)
    if kind == "Q6_K":
        save_file({"lm_head.weight": torch.from_numpy(through_q6_k(weight))}, file)
        return
    writer = gguf.GGUFWriter(file, "llama")
    stored = gguf.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", stored, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
