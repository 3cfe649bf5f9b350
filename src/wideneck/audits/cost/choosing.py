"""The smallest head within a limit of divergence."""

from collections.abc import Sequence

from wideneck.audits.cost.results import Choice, Kind
from wideneck.errors import WideneckError

CHOSEN = ("format", "better", "low rank")
"""What anyone can store; a shift needs a head that no embedding is tied to."""


def check_limit(limit: float) -> None:
    """Refuse a limit that no head could meet or miss.

    Raises:
        WideneckError: it is not a positive number.
    """
    if not 0 < limit < float("inf"):
        raise WideneckError(
            f"A cost limit is a divergence above 0, in nats, such as 0.01; got {limit:g}."
        )


def chosen(kinds: Sequence[Kind], limit: float) -> Choice:
    """By the mean divergence; of equal sizes the one with the smaller divergence."""
    offered = [kind for kind in kinds if kind.sort in CHOSEN]
    within = [kind for kind in offered if kind.kl.value <= limit]
    best = min(within, key=lambda kind: (kind.num_bytes, kind.kl.value), default=None)
    nearest = min(offered, key=lambda kind: kind.kl.value)
    return Choice(
        limit=limit,
        name=None if best is None else best.name,
        nearest=nearest.name,
        nearest_kl=nearest.kl.value,
    )
