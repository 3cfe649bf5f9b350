"""The most telling numbers of the memory section, each with what it is read against."""

from wideneck.audits.memory.results import Cache, LayerRetrieval, MemoryAudit
from wideneck.report.figures import Figure
from wideneck.report.numbers import (
    interval,
    known,
    number,
    percent,
    percentage,
    share,
    value,
    with_name,
)

LAYERS = "memory.layers[]"
CACHES = "memory.gain.caches[]"
BASELINES = ("recency", "frequency", "token_identity")


def memory_figures(audit: MemoryAudit) -> list[Figure]:
    """Recurrence, ranks, gains."""
    found, elsewhere = percent(audit.recurrence.share), audit.recurrence.elsewhere
    return [
        Figure(
            "next token in the context",
            percentage(audit.recurrence.share),
            () if elsewhere is None else (with_name(share(elsewhere.value), "other text"),),
            "memory.recurrence.share",
            interval(found),
        ),
        *_ranks(audit),
        *_gains(audit),
    ]


def _ranks(audit: MemoryAudit) -> list[Figure]:
    if audit.baselines is None or not audit.layers:
        return []
    found = audit.baselines
    means = {name: getattr(found, name).reciprocal_rank.value for name in BASELINES}
    beside = tuple(with_name(number(x), name.replace("_", " ")) for name, x in means.items())
    last, best = audit.layers[-1], best_layer(audit)
    figures = [
        Figure(
            "reciprocal rank, into head",
            value(last.dot.reciprocal_rank),
            (*beside, f"{number(found.chance.value)} chance"),
            f"{LAYERS}.dot.reciprocal_rank",
            interval(last.dot.reciprocal_rank),
        ),
        Figure(
            "the same, by cosine",
            value(last.cosine.reciprocal_rank),
            (),
            f"{LAYERS}.cosine.reciprocal_rank",
            interval(last.cosine.reciprocal_rank),
            means=f"{LAYERS}.cosine",
        ),
    ]
    if best is not last:
        figures.append(
            Figure(
                "best layer, by cosine",
                value(best.cosine.reciprocal_rank),
                (best.layer,),
                f"{LAYERS}.cosine.reciprocal_rank",
                interval(best.cosine.reciprocal_rank),
                means=f"{LAYERS}.cosine",
            )
        )
    first = percent(last.dot.first)
    figures.append(
        Figure(
            "target first, into head",
            percentage(last.dot.first),
            (f"{share(found.token_identity.first.value)} token identity",),
            f"{LAYERS}.dot.first",
            interval(first),
        )
    )
    return figures


def best_layer(audit: MemoryAudit) -> LayerRetrieval:
    """The layer whose states find the target best, by cosine."""
    found = [layer for layer in audit.layers if known(layer.cosine.reciprocal_rank.value)]
    if not found:
        return audit.layers[-1]
    return max(found, key=lambda layer: layer.cosine.reciprocal_rank.value)


def find_cache(audit: MemoryAudit, mixture: str, scores: str = "similarity") -> Cache | None:
    """One of the caches, if they were measured."""
    chosen = (c for c in audit.gain.caches if (c.mixture, c.scores) == (mixture, scores))
    return next(chosen, None)


def _gains(audit: MemoryAudit) -> list[Figure]:
    figures = []
    for mixture, label in (
        ("joint", "cache gain, joint"),
        ("linear", "cache gain, linear"),
        ("published", "cache gain, as published"),
    ):
        cache = find_cache(audit, mixture)
        if cache is None:
            continue
        others = [(kind, find_cache(audit, mixture, kind)) for kind in ("counts", "same token")]
        beside = [f"{value(c.gain)} {kind}" for kind, c in others if c is not None]
        figures.append(
            Figure(
                label,
                value(cache.gain),
                tuple(beside) or ("0 without a cache",),
                f"{CACHES}.gain",
                interval(cache.gain),
            )
        )
    return figures
