"""Scales that are off by their inverse, found by the size of the numbers that they make.

A scale of FP8 may be stored as what to multiply by or as what to divide by, and the scale of all of
NVFP4 is both, by writer; either reading gives a matrix that looks like one.  They differ by the
scale's square, some thousand to a hundred million times, and a head is about as large as the input
embedding.  So where the root mean square is beyond four times the embedding's, either way, and the
other reading would be nearer, the file is refused.  An embedding that is quantized itself proves
nothing.
"""

import math

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.models.quantized.checkpoint import DecodedFile

WITHIN = 4.0
"""How far from the embedding's size a head may be before the other reading is asked."""
USUAL, USUAL_WITHIN = 0.05, 100.0
"""The same without a plain embedding: heads lie between 0.005 and 2."""
SAMPLES, ROWS = 8, 64
"""Runs of rows of the embedding that are read; on the hub each is a request."""


def check_size(file: DecodedFile, name: str, weight: Tensor, embedding: str | None) -> None:
    """Refuse a decoded head of a size that speaks for the inverse of its scales.

    Args:
        file: where it was read from.
        name: the head's.
        weight: (V, D), decoded.
        embedding: the name of the input embedding, if there is another matrix.

    Raises:
        WideneckError: as this file's first lines say.
    """
    found = file.quantized(name)
    if found is None:
        return
    rows = file.shape(name)[0]
    starts = sorted({round(i * max(0, rows - ROWS) / (SAMPLES - 1)) for i in range(SAMPLES)})
    size = _rms([weight[start : start + ROWS] for start in starts])
    beside = 0.0
    # A quantized embedding may be off as well, by the same mistake.
    plain = embedding is not None and file.quantized(embedding) is None
    if embedding is not None and plain and file.shape(embedding)[0] >= rows:
        beside = _rms([file.rows(embedding, s, min(s + ROWS, rows)).float() for s in starts])
    usual, within = (beside, WITHIN) if beside > 0 else (USUAL, USUAL_WITHIN)
    if not size > 0:
        return
    other = size / found.typical_scale**2
    off, other_off = (abs(math.log(x / usual)) for x in (size, other))
    if off <= math.log(within) or off <= other_off:
        return
    than = f"those of {embedding}" if beside > 0 else "those of a head"
    raise WideneckError(
        f"{name} decodes to numbers of {size:.3g} (root mean square), {size / usual:.3g} times "
        f"{than}, and would to {other:.3g} if its scales were the inverse of what their names say: "
        "they seem to be stored the other way, so mend them, or give the original checkpoint."
    )


def _rms(blocks: list[Tensor]) -> float:
    numbers = torch.cat([block.flatten() for block in blocks]).double()
    return float(numbers.square().mean().sqrt())
