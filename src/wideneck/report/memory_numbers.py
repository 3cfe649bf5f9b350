"""The numbers of the memory section: the most telling ones, its tables, its chart."""

from collections.abc import Iterator

from wideneck.audits.memory.results import Cache, DistanceShare, LayerRetrieval, MemoryAudit
from wideneck.report.axes import linear
from wideneck.report.charts import depth_axis
from wideneck.report.numbers import (
    estimate,
    interval,
    known,
    number,
    optional,
    percent_interval,
    percentage,
    share,
    value,
    with_name,
)
from wideneck.report.parts import BOTH, Column, Measure, Number, Table, by_item, cells
from wideneck.report.svg import Chart, Line, Rule

BASELINES = {"recency": "recency", "frequency": "frequency", "token_identity": "token identity"}
"""Names of the fields for readers."""
CACHES = "memory.gain.caches[]"
MIXTURES = {
    "joint": "cache gain, joint",
    "linear": "cache gain, linear",
    "published": "cache gain, as published",
}


def memory_numbers(audit: MemoryAudit) -> Iterator[Number]:
    """Recurrence, ranks, gains."""
    found, elsewhere = audit.recurrence.share, audit.recurrence.elsewhere
    beside = () if elsewhere is None else (with_name(share(elsewhere.value), "other text"),)
    yield Number.part("next token in the context", found, beside, "memory.recurrence.share")
    yield from _ranks(audit)
    caches = {(cache.mixture, cache.scores): cache for cache in audit.gain.caches}
    for mixture, label in MIXTURES.items():
        cache = caches.get((mixture, "similarity"))
        if cache is None:
            continue
        others = [(kind, caches.get((mixture, kind))) for kind in ("counts", "same token")]
        gains = [f"{value(other.gain)} {kind}" for kind, other in others if other is not None]
        nothing = ("0 without a cache",)
        yield Number.of(label, cache.gain, tuple(gains) or nothing, f"{CACHES}.gain")


def _ranks(audit: MemoryAudit) -> Iterator[Number]:
    found = audit.baselines
    if found is None or not audit.layers:
        return
    beside = [
        with_name(number(getattr(found, field).reciprocal_rank.value), name)
        for field, name in BASELINES.items()
    ]
    beside.append(f"{number(found.chance.value)} chance")
    last, best = audit.layers[-1], best_layer(audit)
    dot, cosine = "memory.layers[].dot", "memory.layers[].cosine"
    into, rank = last.dot.reciprocal_rank, f"{cosine}.reciprocal_rank"
    yield Number.of("reciprocal rank, into head", into, tuple(beside), f"{dot}.reciprocal_rank")
    yield Number.of("the same, by cosine", last.cosine.reciprocal_rank, (), rank, means=cosine)
    if best is not last:
        found_best = best.cosine.reciprocal_rank
        yield Number.of("best layer, by cosine", found_best, (best.layer,), rank, means=cosine)
    identity = (f"{share(found.token_identity.first.value)} token identity",)
    yield Number.part("target first, into head", last.dot.first, identity, f"{dot}.first")


def best_layer(audit: MemoryAudit) -> LayerRetrieval:
    """The layer whose states find the target best, by cosine."""
    found = [layer for layer in audit.layers if known(layer.cosine.reciprocal_rank.value)]
    if not found:
        return audit.layers[-1]
    return max(found, key=lambda layer: layer.cosine.reciprocal_rank.value)


def distance_table(audit: MemoryAudit) -> Table | None:
    """How far back the target last stood."""

    def label(point: DistanceShare) -> str:
        far = " and more" if point.farthest is None else f" to {point.farthest}"
        return f"{point.nearest}{far}"

    return by_item(
        "Distance back to the last occurrence, in tokens",
        audit.recurrence.by_distance,
        label,
        [
            ("predictions", "share", percentage),
            ("95 % interval", "share.low", percent_interval),
        ],
        "memory.recurrence.by_distance[]",
        first="tokens",
    )


def _retrieval(prefix: str = "", of: str = "") -> list[Measure]:
    """What is shown of a `Retrieval` below the path `of`."""
    return [
        (f"{prefix}reciprocal rank", f"{of}reciprocal_rank", value),
        ("95 % interval", f"{of}reciprocal_rank.low", interval),
        ("first", f"{of}first", percentage),
        ("95 % interval", f"{of}first.low", percent_interval),
    ]


def baseline_table(audit: MemoryAudit) -> Table | None:
    """Ranks without hidden states."""
    found, base = audit.baselines, "memory.baselines"
    if found is None:
        return None
    measures = _retrieval()
    rows = [
        (label, f"{base}.{name}", cells(getattr(found, name), measures))
        for name, label in BASELINES.items()
    ]
    rows.append(("chance", f"{base}.chance", [value(found.chance), interval(found.chance), "", ""]))
    heads = [Column(text, f"{base}.recency.{path}") for text, path, _ in measures]
    return Table("Ranks without hidden states", heads, rows)


def layer_table(audit: MemoryAudit) -> Table | None:
    """Ranks by similarity, layer by layer."""
    return by_item(
        "Ranks by the similarity of hidden states",
        audit.layers,
        lambda found: found.layer,
        [*_retrieval("dot product: ", "dot."), *_retrieval("cosine: ", "cosine.")],
        "memory.layers[]",
        first="state",
    )


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
            ("gain, fitted half", "fitted_gain", optional("")),
            ("gain, other half", "gain", value),
            ("95 % interval", "gain.low", interval),
            ("over counts", "over_counts", optional("", estimate)),
            ("mass", "mass", share),
        ],
        CACHES,
        at=lambda _: f"{CACHES}.mixture",
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
            ("theta", "theta", optional("")),
            ("b", "bias", optional("")),
            ("w", "weight", optional("")),
        ],
        CACHES,
        first="cache",
        captioned=False,
        face=BOTH,
    )


def rank_chart(audit: MemoryAudit) -> Chart | None:
    """Mean reciprocal rank of the target by layer, beside ranks without hidden states."""
    if audit.baselines is None or not audit.layers:
        return None
    depth = range(len(audit.layers))
    lines = []
    for name, color in (("dot", "c-raw"), ("cosine", "c-centred")):
        found = [getattr(layer, name).reciprocal_rank.value for layer in audit.layers]
        lines.append(Line(name, color, depth, found, markers="dot"))
    rules = [
        Rule(label, getattr(audit.baselines, name).reciprocal_rank.value)
        for name, label in BASELINES.items()
    ]
    rules.append(Rule("chance", audit.baselines.chance.value))
    last = len(depth) - 1
    if last:
        rules.append(Rule("final norm", last - 0.5, vertical=True))
    values = [*(y for line in lines for y in line.y), *(r.at for r in rules if not r.vertical)]
    return Chart(
        "Reciprocal rank of the next token",
        "Mean reciprocal rank of the next token among the distinct tokens of the context at each "
        "depth, by dot product and by cosine of hidden states, with ranks by recency, by "
        "frequency, by token identity and by chance as level lines; the last point is what enters "
        "the head, after the final norm.",
        depth_axis(len(depth)),
        linear("mean reciprocal rank", [0, *values], low=0),
        lines,
        rules,
    )
