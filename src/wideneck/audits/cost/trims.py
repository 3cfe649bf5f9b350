"""Trimmed vocabularies: what is missing when only the most frequent ids stay.

Shapes: N tokens, V vocabulary, K rows that stay.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from wideneck.audits.cost.results import Trim
from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.output.layer import OutputLayer, token_chunks

SHARES = (0.5, 0.25, 0.125, 0.0625)
"""Of the vocabulary, that stay."""


@torch.no_grad()
def trims(
    layer: OutputLayer,
    hidden: Tensor,
    targets: Tensor,
    document: Tensor,
    counts: Tensor,
    special: Iterable[int] = (),
) -> list[Trim]:
    """Measure the head without its rarer rows.

    Args:
        layer: the head.
        hidden: (W, T, D).
        targets: (W, T).
        document: (W,).
        counts: (V,), by which ids stay; of equal counts the smaller id.
        special: ids that stay before all others, as a text ends and a turn begins with them.
    """
    V, D = layer.weight.shape
    counts = counts.clone()
    counts[torch.tensor([i for i in special if i < V], dtype=torch.long)] += counts.max() + 1
    sizes = sorted({max(1, int(V * share)) for share in SHARES}, reverse=True)
    place = torch.empty_like(counts)
    place[counts.argsort(descending=True, stable=True)] = torch.arange(V, device=counts.device)
    kept = torch.stack([place < size for size in sizes], dim=1).to(layer.weight)
    missing, tops = [], []
    for (x,) in token_chunks(hidden.flatten(0, 1)):
        p = layer.logits(x).softmax(1)
        missing.append(p @ (1 - kept))
        tops.append(p.argmax(1))
    gone, top = torch.cat(missing), torch.cat(tops)
    outside = kept == 0

    def over(values: Tensor) -> Estimate:
        return estimate(values.double().view_as(targets), document)

    return [
        Trim(
            num_rows=size,
            num_bytes=2 * size * D,
            share=size / V,
            missing=over(gone[:, i]),
            missing_targets=over(outside[targets.flatten(), i]),
            top1=over(~outside[top, i]),
        )
        for i, size in enumerate(sizes)
    ]
