"""Six heat maps of the attention heads, layer by head, on scales that are said."""

from collections.abc import Callable

from wideneck.audits.attention.results import AttentionAudit, HeadMeasures
from wideneck.report.heatmap import Cell, HeatMap, Scale, around_zero, between, decades
from wideneck.report.numbers import UNMEASURED, estimate, known, number
from wideneck.report.parts import Panel


def heat_maps(audit: AttentionAudit) -> list[Panel]:
    """Every map that has a value to show."""
    n = audit.reference_size
    jacobians = [h.jacobian_spectral for h in audit.heads if h.jacobian_spectral is not None]
    limit = audit.jacobian_limit
    top = max([0.5, *jacobians]) if limit is None else limit
    losses = [h.ablation.value for h in audit.heads if h.ablation is not None]
    heads = "attention.heads[]"
    found = [
        _map(
            audit,
            "Spread of the weights",
            "Entropy over that of uniform weights: at 1 all visible keys weigh the same, near 0 "
            "one key has nearly all. It does not say which keys.",
            between(0, 1),
            lambda h: h.spread,
        ),
        _map(
            audit,
            "Weight of the first key",
            "Mean weight of the window's first key over the queries behind it. A high one says "
            "nothing on what the head does with the rest.",
            between(0, 1),
            lambda h: h.first_key,
        ),
        _map(
            audit,
            f"Separability, N = {n}",
            f"N_s / N: share of the {n} heaviest keys that lie nearer to their sum than any key "
            "outside.",
            between(0, 1),
            lambda h: h.separability,
            f"{heads}.separability",
        ),
        _map(
            audit,
            f"Distance, N = {n}",
            f"Sum of the distances from the sum of the {n} heaviest keys to the keys outside, on "
            "a logarithmic scale. It grows with the length of the vectors, so layers compare "
            "badly.",
            decades(h.distance for h in audit.heads),
            lambda h: h.distance,
            f"{heads}.distance",
        ),
        _map(
            audit,
            "Jacobian",
            "Mean spectral norm of dp / dl: how far the weights can move with the scores"
            + (
                "."
                if limit is None
                else f". The scale ends at the limit of this normalizer, {limit:.3g}."
            )
            + " Small for a flat head and for one that is settled.",
            between(0, top) if top == 0.5 else Scale(0.0, top, "0", number(top)),
            lambda h: h.jacobian_spectral,
        ),
        _map(
            audit,
            "Ablation",
            "Nats a token more (blue) or fewer (orange) with the head's output replaced by the "
            "plain mean of its values. Colours are full where the scale ends.",
            around_zero(losses, "nats"),
            lambda h: None if h.ablation is None else h.ablation.value,
            f"{heads}.ablation",
            lambda h: "none" if h.ablation is None else f"{estimate(h.ablation)} nats",
        ),
    ]
    return [panel for panel in found if panel is not None]


def _map(
    audit: AttentionAudit,
    title: str,
    about: str,
    scale: Scale,
    measure: Callable[[HeadMeasures], float | None],
    caution: str = "",
    write: Callable[[HeadMeasures], str] | None = None,
) -> Panel | None:
    cells = []
    for head in audit.heads:
        value = measure(head)
        text = "none" if value is None else write(head) if write else number(float(value))
        if value is not None and not known(value):
            value, text = None, UNMEASURED
        cells.append(Cell(head.layer, head.head, value, text))
    if all(cell.value is None for cell in cells):
        return None
    description = f"{about} One cell a head, from {scale.low_text} to {scale.high_text}."
    return Panel(HeatMap(title, description, scale, cells), about, caution)
