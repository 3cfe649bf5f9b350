"""Complete memory sections of made-up numbers, of any number of layers."""

from report.examples import around
from wideneck.audits.memory.results import (
    Cache,
    CacheGain,
    DistanceShare,
    LayerRetrieval,
    MemoryAudit,
    RankBaselines,
    Recurrence,
    Retrieval,
)


def memory_audit(
    num_layers: int = 3,
    *,
    ranked: bool = True,
    caches: bool = True,
    elsewhere: bool = True,
    helped: bool = True,
    half: float | None = 0.01,
) -> MemoryAudit:
    """Numbers of plausible size; nothing in them is measured."""
    names = ["embeddings", *(f"layer {i + 1}" for i in range(num_layers)), "entering the head"]
    layers = [
        LayerRetrieval(
            layer=name,
            dot=_retrieval(0.2 + 0.3 * i / len(names), half),
            cosine=_retrieval(0.3 + 0.3 * i / len(names), half),
        )
        for i, name in enumerate(names if num_layers else names[-1:])
    ]
    return MemoryAudit(
        num_tokens=4096,
        num_documents=8,
        window=512,
        recurrence=Recurrence(
            share=around(0.603, half),
            elsewhere=around(0.39, half) if elsewhere else None,
            by_distance=[
                DistanceShare(nearest=1, farthest=8, share=around(0.104, half)),
                DistanceShare(nearest=129, farthest=None, share=around(0.069, half)),
            ],
        ),
        num_ranked=2469 if ranked else 0,
        distinct=125.7 if ranked else 0.0,
        layers=layers if ranked else [],
        baselines=RankBaselines(
            recency=_retrieval(0.1, half),
            frequency=_retrieval(0.21, half),
            token_identity=_retrieval(0.33, half),
            chance=around(0.052, half),
        )
        if ranked
        else None,
        gain=_gain(helped, half) if caches else _skipped(),
        notes=[],
    )


def _retrieval(mean: float, half: float | None) -> Retrieval:
    return Retrieval(reciprocal_rank=around(mean, half), first=around(mean / 2, half))


def _skipped() -> CacheGain:
    return CacheGain(
        num_fit_tokens=512,
        num_test_tokens=0,
        spread=None,
        loss=None,
        caches=[],
        skipped="one window of text cannot be fitted on one half and measured on the other",
    )


def _gain(helped: bool, half: float | None) -> CacheGain:
    found = []
    for m, mixture in enumerate(("joint", "linear")):
        for k, kind in enumerate(("counts", "similarity", "same token")):
            gain = 0.01 * (k + m) - 0.005
            found.append(
                Cache(
                    mixture=mixture,
                    scores=kind,
                    theta=0.58 if helped and k else None,
                    bias=-89.1 if helped and not m else None,
                    weight=(0.012 if helped else 0.0) if m else None,
                    mass=0.0043 if helped else 0.0,
                    fitted_gain=0.002 if helped else 0.0,
                    loss=around(2.7 - gain, half),
                    gain=around(gain, half),
                    over_counts=around(0.01 * k, half) if k else None,
                )
            )
    published = Cache(
        mixture="published",
        scores="similarity",
        theta=1.0,
        bias=0.0,
        weight=None,
        mass=0.998,
        fitted_gain=None,
        loss=around(34.5, half),
        gain=around(-31.8, half),
        over_counts=None,
    )
    return CacheGain(
        num_fit_tokens=2048,
        num_test_tokens=2048,
        spread=17.1,
        loss=around(2.7, half),
        caches=[*found, published],
        skipped="",
    )
