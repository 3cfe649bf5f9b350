"""Six heat maps of the attention heads, layer by head, on scales that are said."""

from typing import Any

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.estimate import Estimate
from wideneck.report.heatmap import Cell, HeatMap, Scale, around_zero, between, decades
from wideneck.report.numbers import UNMEASURED, estimate, known, number
from wideneck.report.parts import Panel

HEADS = "attention.heads[]"


def heat_maps(audit: AttentionAudit) -> list[Panel]:
    """Every map that has a value to show."""
    n, limit = audit.reference_size, audit.jacobian_limit
    jacobians = [h.jacobian_spectral for h in audit.heads if h.jacobian_spectral is not None]
    top = max([0.5, *jacobians]) if limit is None else limit
    ends = "" if limit is None else f". The scale ends at the limit of this normalizer, {limit:.3g}"
    losses = [h.ablation.value for h in audit.heads if h.ablation is not None]
    maps = (
        (
            "Spread of the weights",
            "spread",
            between(0, 1),
            "",
            "Entropy over that of uniform weights: at 1 all visible keys weigh the same, near 0 "
            "one key has nearly all. It does not say which keys.",
        ),
        (
            "Weight of the first key",
            "first_key",
            between(0, 1),
            "",
            "Mean weight of the window's first key over the queries behind it. A high one says "
            "nothing on what the head does with the rest.",
        ),
        (
            f"Separability, N = {n}",
            "separability",
            between(0, 1),
            f"{HEADS}.separability",
            f"N_s / N: share of the {n} heaviest keys that lie nearer to their sum than any key "
            "outside.",
        ),
        (
            f"Distance, N = {n}",
            "distance",
            decades(h.distance for h in audit.heads),
            f"{HEADS}.distance",
            f"Sum of the distances from the sum of the {n} heaviest keys to the keys outside, on "
            "a logarithmic scale. It grows with the length of the vectors, so layers compare "
            "badly.",
        ),
        (
            "Jacobian",
            "jacobian_spectral",
            between(0, top) if top == 0.5 else Scale(0.0, top, "0", number(top)),
            "",
            "Mean spectral norm of dp / dl: how far the weights can move with the scores"
            f"{ends}. Small for a flat head and for one that is settled.",
        ),
        (
            "Ablation",
            "ablation",
            around_zero(losses, "nats"),
            f"{HEADS}.ablation",
            "Nats per token more (blue) or fewer (orange) with the head's output replaced by the "
            "plain mean of its values. Colours are full where the scale ends.",
        ),
    )
    found = []
    for title, field, scale, caution, about in maps:
        cells = [Cell(head.layer, head.head, *_shown(getattr(head, field))) for head in audit.heads]
        if any(cell.value is not None for cell in cells):
            said = f"{about} One cell per head, from {scale.low_text} to {scale.high_text}."
            found.append(Panel(HeatMap(title, said, scale, cells), about, caution))
    return found


def _shown(measured: Any) -> tuple[float | None, str]:
    """The value of a head, None where there is none, and the value or the reason in words."""
    if measured is None:
        return None, "none"
    value = measured.value if isinstance(measured, Estimate) else measured
    if not known(value):
        return None, UNMEASURED
    return value, number(value) if value is measured else f"{estimate(measured)} nats"
