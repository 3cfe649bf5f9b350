"""The most telling numbers of the memory section, each with what it is read against."""

from collections.abc import Iterator

from wideneck.audits.memory.results import LayerRetrieval, MemoryAudit
from wideneck.report.memory_tables import BASELINES, CACHES
from wideneck.report.numbers import known, number, share, value, with_name
from wideneck.report.parts import Figure

LAYERS = "memory.layers[]"
MIXTURES = {
    "joint": "cache gain, joint",
    "linear": "cache gain, linear",
    "published": "cache gain, as published",
}


def memory_figures(audit: MemoryAudit) -> list[Figure]:
    """Recurrence, ranks, gains."""
    found, elsewhere = audit.recurrence.share, audit.recurrence.elsewhere
    beside = () if elsewhere is None else (with_name(share(elsewhere.value), "other text"),)
    path = "memory.recurrence.share"
    first = Figure.part("next token in the context", found, beside, path)
    return [first, *_ranks(audit), *_gains(audit)]


def _ranks(audit: MemoryAudit) -> Iterator[Figure]:
    found = audit.baselines
    if found is None or not audit.layers:
        return
    beside = [
        with_name(number(getattr(found, field).reciprocal_rank.value), name)
        for field, name in BASELINES.items()
    ]
    beside.append(f"{number(found.chance.value)} chance")
    last, best = audit.layers[-1], best_layer(audit)
    dot, cosine = f"{LAYERS}.dot", f"{LAYERS}.cosine"
    rank = f"{cosine}.reciprocal_rank"
    yield Figure.of(
        "reciprocal rank, into head",
        last.dot.reciprocal_rank,
        tuple(beside),
        f"{dot}.reciprocal_rank",
    )
    yield Figure.of("the same, by cosine", last.cosine.reciprocal_rank, (), rank, means=cosine)
    if best is not last:
        found_best = best.cosine.reciprocal_rank
        yield Figure.of("best layer, by cosine", found_best, (best.layer,), rank, means=cosine)
    identity = (f"{share(found.token_identity.first.value)} token identity",)
    yield Figure.part("target first, into head", last.dot.first, identity, f"{dot}.first")


def best_layer(audit: MemoryAudit) -> LayerRetrieval:
    """The layer whose states find the target best, by cosine."""
    found = [layer for layer in audit.layers if known(layer.cosine.reciprocal_rank.value)]
    if not found:
        return audit.layers[-1]
    return max(found, key=lambda layer: layer.cosine.reciprocal_rank.value)


def _gains(audit: MemoryAudit) -> Iterator[Figure]:
    caches = {(cache.mixture, cache.scores): cache for cache in audit.gain.caches}
    for mixture, label in MIXTURES.items():
        cache = caches.get((mixture, "similarity"))
        if cache is None:
            continue
        others = [(kind, caches.get((mixture, kind))) for kind in ("counts", "same token")]
        beside = [f"{value(other.gain)} {kind}" for kind, other in others if other is not None]
        nothing = ("0 without a cache",)
        yield Figure.of(label, cache.gain, tuple(beside) or nothing, f"{CACHES}.gain")
