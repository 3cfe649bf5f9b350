"""The tables of the memory section."""

from collections.abc import Callable
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.audits.memory.results import Cache, DistanceShare, MemoryAudit, Retrieval
from wideneck.report.numbers import estimate, interval, number, percent, percentage, share, value
from wideneck.report.parts import BOTH, Column, Table, by_item

BASELINES = {"recency": "recency", "frequency": "frequency", "token_identity": "token identity"}
"""Names of the fields for readers."""

CACHES = "memory.gain.caches[]"


def distance_table(audit: MemoryAudit) -> Table | None:
    """How far back the target last stood."""

    def label(point: DistanceShare) -> str:
        far = " and more" if point.farthest is None else f" to {point.farthest}"
        return f"{point.nearest}{far}"

    return by_item(
        "Last seen so many tokens back",
        audit.recurrence.by_distance,
        label,
        [
            ("predictions", "share", lambda p: percentage(p.share)),
            ("95 % interval", "share.low", lambda p: interval(percent(p.share))),
        ],
        "memory.recurrence.by_distance[]",
        first="tokens",
    )


def baseline_table(audit: MemoryAudit) -> Table | None:
    """Ranks without hidden states."""
    found, base = audit.baselines, "memory.baselines"
    if found is None:
        return None
    columns = _retrieval("", "recency", lambda retrieval: retrieval)
    rows = [
        (label, f"{base}.{name}", [write(getattr(found, name)) for _, _, write in columns])
        for name, label in BASELINES.items()
    ]
    rows.append(("chance", f"{base}.chance", [value(found.chance), interval(found.chance), "", ""]))
    heads = [Column(text, f"{base}.{path}") for text, path, _ in columns]
    return Table("Ranks without hidden states", heads, rows)


def layer_table(audit: MemoryAudit) -> Table | None:
    """Ranks by similarity, layer by layer."""
    return by_item(
        "Ranks by the similarity of hidden states",
        audit.layers,
        lambda found: found.layer,
        [
            *_retrieval("dot product: ", "dot", lambda layer: layer.dot),
            *_retrieval("cosine: ", "cosine", lambda layer: layer.cosine),
        ],
        "memory.layers[]",
        first="state",
    )


def _retrieval(
    prefix: str, base: str, of: Callable[[Any], Retrieval]
) -> list[tuple[str, str, Callable[[Any], str]]]:
    def mean(item: Any) -> Estimate:
        return of(item).reciprocal_rank

    def first(item: Any) -> Estimate:
        return percent(of(item).first)

    return [
        (f"{prefix}reciprocal rank", f"{base}.reciprocal_rank", lambda item: value(mean(item))),
        ("95 % interval", f"{base}.reciprocal_rank.low", lambda item: interval(mean(item))),
        ("first", f"{base}.first", lambda item: percentage(of(item).first)),
        ("95 % interval", f"{base}.first.low", lambda item: interval(first(item))),
    ]


def cache_name(cache: Cache) -> str:
    """Mixture and scores."""
    if cache.mixture == "published":
        return "as published, untrained"
    return f"{cache.mixture}, {cache.scores}"


def cache_table(audit: MemoryAudit) -> Table | None:
    """What every cache gains."""
    return by_item(
        "Nats gained per token by a cache, without training",
        audit.gain.caches,
        cache_name,
        [
            ("gain, fitted half", "fitted_gain", lambda c: fitted_number(c.fitted_gain)),
            ("gain, other half", "gain", lambda c: value(c.gain)),
            ("95 % interval", "gain.low", lambda c: interval(c.gain)),
            (
                "over counts",
                "over_counts",
                lambda c: estimate(c.over_counts) if c.over_counts else "",
            ),
            ("mass", "mass", lambda c: share(c.mass)),
        ],
        CACHES,
        at=f"{CACHES}.mixture",
        wide=["gain, fitted half", "over counts"],
        first="cache",
        captioned=False,
        face=BOTH,
    )


def fitted_table(audit: MemoryAudit) -> Table | None:
    """The numbers that were fitted."""
    return by_item(
        "Fitted numbers",
        [cache for cache in audit.gain.caches if cache.mixture != "published"],
        cache_name,
        [
            ("theta", "theta", lambda c: fitted_number(c.theta)),
            ("b", "bias", lambda c: fitted_number(c.bias)),
            ("w", "weight", lambda c: fitted_number(c.weight)),
        ],
        CACHES,
        first="cache",
        captioned=False,
        face=BOTH,
    )


def fitted_number(x: float | None) -> str:
    """A fitted number; empty where there is none."""
    return "" if x is None else number(float(x))
