"""Formats measured from a head that is stored rounded already.

Rounded to the format that it is stored in, or to a finer one, such a head hardly changes: what the
format did to the head before it was stored is not seen.  So the head is moved at random within its
own steps, as widely as the rounding may have moved it, and that head is the one compared with.
"""

import torch
from torch import Tensor

from wideneck.audits.cost.cheaper import dense
from wideneck.audits.cost.measuring import apart
from wideneck.audits.cost.results import Dithered
from wideneck.audits.estimate import estimate
from wideneck.audits.output.layer import OutputLayer
from wideneck.rounding.formats import FORMATS

STORED = {"bfloat16": "bf16"}
"""Types as a head names them -> formats; others go by one name."""
COMPARED = ("bf16", "fp8 row", "int8 row", "Q8_0")


@torch.no_grad()
def dithered(
    layer: OutputLayer,
    hidden: Tensor,
    document: Tensor,
    stored: str,
    seed: int,
    notes: list[str],
) -> list[Dithered]:
    """Compare on some states (W, T, D) of documents (W,); nothing of a head stored in full."""
    name = STORED.get(stored, stored)
    format = FORMATS.get(name)
    fits = format is not None and format.refusal(*layer.weight.shape) is None
    variance = format.variance(layer.weight) if format is not None and fits else None
    if variance is None:
        if stored not in ("float32", "float16", "float64"):
            notes.append(
                f"The head is stored as {stored}: what its own rounding cost is not in the table, "
                "and formats that are as fine lose less here than from the head before."
            )
        return []
    notes.append(
        f"The head is stored as {stored} already: rounded to that again it does not change, and "
        "formats that are as fine lose less here than they would from the head before. Some of "
        "them are measured from a head moved at random within its steps as well."
    )
    draw = torch.Generator().manual_seed(seed)  # on the CPU: one seed gives one head everywhere
    moved = torch.empty_like(layer.weight)
    for start in range(0, len(moved), 4096):
        part = slice(start, start + 4096)
        step = (12 * variance[part]).sqrt_()
        noise = torch.rand(step.shape, generator=draw).sub_(0.5).to(step)
        moved[part] = layer.weight[part] + noise * step
    del variance
    base = OutputLayer(moved, layer.bias, layer.logit_map)
    found = []
    for compared in COMPARED:
        other = FORMATS[compared]
        if other.refusal(*moved.shape) is not None:
            continue
        flat = hidden.flatten(0, 1)
        nothing = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
        [one] = apart(base, [dense(base, other.rounded(moved))], flat, nothing)
        kl = one.kl.view(hidden.shape[:2])
        found.append(Dithered(name=compared, kl=estimate(kl, document)))
    return found
