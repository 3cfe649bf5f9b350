"""The tables of the memory section."""

from wideneck.audits.estimate import Estimate
from wideneck.audits.memory.results import Cache, MemoryAudit, Retrieval
from wideneck.report.numbers import estimate, interval, number, percent, percentage, share, value
from wideneck.report.tables import Table

BASELINES = {"recency": "recency", "frequency": "frequency", "token_identity": "token identity"}
"""Names of the fields for readers."""

CACHES = "memory.gain.caches[]"


def distance_table(audit: MemoryAudit) -> Table:
    """How far back the target last stood."""
    base = "memory.recurrence.by_distance[]"
    rows = []
    for point in audit.recurrence.by_distance:
        far = " and more" if point.farthest is None else f" to {point.farthest}"
        rows.append((f"{point.nearest}{far}", "", _share(point.share)))
    return Table(
        "Last seen so many tokens back",
        [("predictions", f"{base}.share"), ("95 % interval", f"{base}.share.low")],
        rows,
    )


def baseline_table(audit: MemoryAudit) -> Table | None:
    """Ranks without hidden states."""
    found = audit.baselines
    if found is None:
        return None
    rows = [
        (label, f"memory.baselines.{name}", _retrieval(getattr(found, name)))
        for name, label in BASELINES.items()
    ]
    chance = [value(found.chance), interval(found.chance), "", ""]
    rows.append(("chance", "memory.baselines.chance", chance))
    return Table("Ranks without hidden states", _columns("memory.baselines.recency", ""), rows)


def layer_table(audit: MemoryAudit) -> Table | None:
    """Ranks by similarity, layer by layer."""
    if not audit.layers:
        return None
    return Table(
        "Ranks by the similarity of hidden states",
        [
            *_columns("memory.layers[].dot", "dot product: "),
            *_columns("memory.layers[].cosine", "cosine: "),
        ],
        [
            (found.layer, "", [*_retrieval(found.dot), *_retrieval(found.cosine)])
            for found in audit.layers
        ],
    )


def _columns(base: str, prefix: str) -> list[tuple[str, str]]:
    rank = f"{base}.reciprocal_rank"
    return [
        (f"{prefix}reciprocal rank", rank),
        ("95 % interval", f"{rank}.low"),
        ("first", f"{base}.first"),
        ("95 % interval", f"{base}.first.low"),
    ]


def _retrieval(found: Retrieval) -> list[str]:
    rank = found.reciprocal_rank
    return [value(rank), interval(rank), *_share(found.first)]


def _share(found: Estimate) -> list[str]:
    return [percentage(found), interval(percent(found))]


def cache_name(cache: Cache) -> str:
    """Mixture and scores."""
    if cache.mixture == "published":
        return "as published, untrained"
    return f"{cache.mixture}, {cache.scores}"


def cache_table(audit: MemoryAudit) -> Table | None:
    """What every cache gains."""
    if not audit.gain.caches:
        return None
    rows = []
    for cache in audit.gain.caches:
        over = cache.over_counts
        cells = [
            fitted_number(cache.fitted_gain),
            estimate(cache.gain),
            "" if over is None else estimate(over),
            share(cache.mass),
        ]
        rows.append((cache_name(cache), f"{CACHES}.mixture", cells))
    return Table(
        "Nats gained per token by a cache, without training",
        [
            ("gain, fitted half", f"{CACHES}.fitted_gain"),
            ("gain, other half", f"{CACHES}.gain"),
            ("over counts", f"{CACHES}.over_counts"),
            ("mass", f"{CACHES}.mass"),
        ],
        rows,
    )


def fitted_table(audit: MemoryAudit) -> Table | None:
    """The numbers that were fitted."""
    if not audit.gain.caches:
        return None
    return Table(
        "Fitted numbers",
        [
            ("theta", f"{CACHES}.theta"),
            ("b", f"{CACHES}.bias"),
            ("w", f"{CACHES}.weight"),
        ],
        [
            (
                cache_name(cache),
                "",
                [fitted_number(x) for x in (cache.theta, cache.bias, cache.weight)],
            )
            for cache in audit.gain.caches
            if cache.mixture != "published"
        ],
    )


def fitted_number(x: float | None) -> str:
    """A fitted number; empty where there is none."""
    return "" if x is None else number(float(x))
