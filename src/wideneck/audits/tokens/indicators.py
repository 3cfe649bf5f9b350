"""Indicators of tokens that no text trained (Land & Bartolo 2024, section 3.2).

A token that is never a target is only ever pushed away from hidden states, and all such tokens by
almost the same pushes, so their output rows point where those of tokens known to be unused point.
An input row of a token that is never read keeps the length it began with, or decays.

W is V x D, w_i a row, mu the mean row, r the mean of the reference rows.  All are lower for a more
suspicious token:

    cosine                           1 - cos(w_i, r)
    centred cosine                   1 - cos(w_i - mu, r - mu)
    cosine without first component   the same after the first principal component was taken off
    distance                         ||w_i - r||
    input norm                       ||e_i||, of an input embedding E that is a matrix of its own

The second to fourth do not change under W - 1 c^T, which no softmax sees; the first does.
The first principal component is that of at most 16,384 rows, evenly spaced.
Cost: a Gram matrix of those, and two passes over the rows in float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wideneck.audits.scale import directions, lengths, power_of
from wideneck.functional.gram import gram, row_chunks

COSINE, CENTRED, WITHOUT_FIRST = "cosine", "centred cosine", "cosine without first component"
DISTANCE, INPUT_NORM = "distance", "input norm"
SAMPLE = 2**14
"""Rows, evenly spaced, of which the first principal component is taken."""


@torch.no_grad()
def indicators(
    weight: Tensor, references: Sequence[int], tied: bool, input_weight: Tensor | None = None
) -> dict[str, Tensor]:
    """Each indicator by name, (V,) float64, on the device of `weight`.

    Args:
        weight: (V, D), the output layer's.
        references: ids of rows that no text trained; none for no indicator of the output rows.
        tied: whether the input embedding is the same matrix, so that there is no input norm.
        input_weight: (V', D'), the input embedding of an untied model; V' may be any number, and
            rows that it lacks get an infinite norm.
    """
    found: dict[str, Tensor] = {}
    if not tied and input_weight is not None:
        norms = torch.cat([lengths(chunk) for chunk in row_chunks(input_weight)])
        padded = torch.full((len(weight),), torch.inf, dtype=torch.float64, device=norms.device)
        padded[: len(norms)] = norms[: len(weight)]
        found[INPUT_NORM] = padded.to(weight.device)
    if not len(references):
        return found
    power, step = power_of(weight), -(-len(weight) // SAMPLE)
    mean = mean_row(weight) * power
    first = torch.linalg.eigh(gram(weight[::step].double() * power)[1]).eigenvectors[:, -1]
    rows = weight[torch.as_tensor(references, device=weight.device)].double()
    r = (rows * power).mean(0)

    def off(x: Tensor) -> Tensor:
        return x - (x @ first)[:, None] * first

    def cosine(x: Tensor, to: Tensor) -> Tensor:
        return (1 - directions(x) @ directions(to[None])[0]).clamp(0, 2)

    parts = {name: [] for name in (COSINE, CENTRED, WITHOUT_FIRST, DISTANCE)}
    for chunk in (rows * power for rows in row_chunks(weight)):
        parts[COSINE].append(cosine(chunk, r))
        parts[CENTRED].append(cosine(chunk - mean, r - mean))
        parts[WITHOUT_FIRST].append(cosine(off(chunk - mean), off((r - mean)[None])[0]))
        parts[DISTANCE].append(lengths(chunk - r) / power)
    return found | {name: torch.cat(part) for name, part in parts.items()}


def mean_row(weight: Tensor) -> Tensor:
    """The mean row, float64; each row divided first, as sums of large ones are no number."""
    total = torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
    for chunk in row_chunks(weight):
        total += (chunk / len(weight)).sum(0)
    return total


def chosen(found: dict[str, Tensor]) -> str | None:
    """The indicator to go by: input norms where there are any, else the centred cosine."""
    for name in (INPUT_NORM, CENTRED):
        if name in found:
            return name
    return None
