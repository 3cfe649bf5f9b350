"""Complete attention sections of made-up numbers, of any number of layers and heads."""

import random

from report.examples import around
from wideneck.audits.attention.results import (
    AttentionAudit,
    CriticalN,
    HeadMeasures,
    LengthPoint,
    Link,
    NormalizerPoint,
    SizePoint,
    Spread,
    StepPoint,
)

SIZES = (1, 5, 10, 20, 100)
LENGTHS = (32, 64, 128, 256, 512)
TEMPERATURES = (0.03, 0.1, 0.3, 1.0, 3.0, 8.0, 10.0, 30.0)
STEPS = (1e-3, 1e-1, 10.0)


def attention_audit(
    num_layers: int = 3,
    num_heads: int = 2,
    *,
    sizes: tuple[int, ...] = SIZES,
    lengths: tuple[int, ...] = LENGTHS,
    temperatures: tuple[float, ...] = TEMPERATURES,
    ablation: bool = True,
    closed_form: bool = True,
    half: float | None = 0.01,
    critical: bool = True,
    comparison: bool = True,
    normalizer: str = "softmax",
    seed: int = 0,
) -> AttentionAudit:
    """Numbers of plausible size; nothing in them is measured."""
    dice = random.Random(seed)
    heads = [
        _head(dice, layer, head, num_layers, ablation, closed_form, half)
        for layer in range(1, num_layers + 1)
        for head in range(1, num_heads + 1)
    ]
    measures = ("effective_keys", "first_key", "separability", "jacobian_spectral")
    return AttentionAudit(
        normalizer=normalizer,
        num_layers=num_layers,
        num_heads=num_heads,
        context=512,
        num_windows=4,
        num_queries=64,
        reference_size=5,
        vectors="values",
        choices=["distances of vectors of length 1", "<b>without</b> the first key"],
        head_dim=64,
        temperature=8.0,
        smallest_gap=0.0,
        jacobian_limit=0.5 if normalizer.startswith("softmax") else None,
        ablation_tokens=1024 if ablation else 0,
        loss=around(3.21, None if half is None else 0.05),
        heads=heads,
        by_size=[_size(size, num_layers, num_heads) for size in sizes],
        by_length=[_length(length) for length in lengths],
        by_step=[_step(t, step) for step in STEPS for t in temperatures] if closed_form else [],
        critical=[
            _critical("monte_carlo", 17),
            _critical("paper", None),
            _critical("upper", 23),
        ]
        if critical
        else [],
        links=[
            Link(measure=m, spearman=dice.uniform(-1, 1), spearman_without_depth=-0.12)
            for m in measures
        ]
        if ablation
        else [],
        comparison=[
            _normalizer(name, change, half)
            for name, change in (
                ("softmax", 0.0),
                ("entmax(alpha=1.5)", 1.234),
                ("<i>sigmoid</i>[b]", -0.02),
            )
        ]
        if comparison
        else [],
        notes=[],
    )


def _head(dice, layer, head, num_layers, ablation, closed_form, half) -> HeadMeasures:
    depth = layer / num_layers
    first = min(0.99, max(0.0, dice.gauss(0.2 + 0.5 * depth * (1 - depth / 2), 0.2)))
    spread = min(1.0, max(0.02, (1 - first) * dice.uniform(0.3, 1.0)))
    lost = dice.lognormvariate(-6, 1.3) - 0.001
    if layer == 1 and head == 1:
        lost = 0.7
    size = None if half is None else 0.003
    return HeadMeasures(
        layer=layer,
        head=head,
        entropy=5.5 * spread,
        effective_keys=2.718 ** (5.5 * spread),
        spread=spread,
        first_key=first,
        sink_share=1.0 if first > 0.35 else 0.0,
        mass=min(1.0, 0.2 + first),
        distance=10 ** dice.gauss(0.5 + depth, 0.4),
        separability=dice.betavariate(6, 2),
        jacobian_spectral=0.5 * dice.betavariate(2, 5) if closed_form else None,
        jacobian_frobenius=0.5 * dice.betavariate(2, 5) if closed_form else None,
        ablation=around(lost, size) if ablation else None,
    )


def five(median: float) -> Spread:
    return Spread(
        lowest=0.5 * median,
        quarter=0.8 * median,
        median=median,
        three_quarters=min(1.2 * median, 0.5 + median / 2) if median < 1 else 1.3 * median,
        highest=min(1.4 * median, 1.0) if median < 1 else 3 * median,
    )


def _size(size: int, num_layers: int, num_heads: int) -> SizePoint:
    grow = size**0.1
    table = [[0.5] * num_heads for _ in range(num_layers)]
    return SizePoint(
        size=size,
        num_queries=256 - size,
        num_excluded=size,
        mass=min(1.0, 0.3 * size**0.2),
        distance=31.0 * grow,
        distance_net=1.1,
        distance_summed=29.0,
        bound=220.0 * grow,
        bound_tight=98.0 * grow,
        expected_paper=0.6 * size**0.7,
        expected_upper=1.2 * size**0.75,
        expected_monte_carlo=1.0 * size**0.74,
        separability=five(0.95 * size**-0.05),
        separability_lower=0.4 - 0.31 * size**0.5,
        separability_upper=0.99,
        distance_by_head=table,
        separability_by_head=table,
    )


def _length(length: int) -> LengthPoint:
    known = length > 32
    return LengthPoint(
        length=length,
        effective_keys=five(1.6 * length**0.5),
        distance=0.06 * length if known else None,
        bound=0.43 * length if known else None,
        expected_paper=2.2 if known else None,
        expected_monte_carlo=3.3 if known else None,
    )


def _step(temperature: float, step: float) -> StepPoint:
    return StepPoint(
        temperature=temperature,
        step=step,
        largest_head=min(0.05 / temperature, 0.9 / step) * (0.7 if temperature > 1 else 1.0),
        bound=min(0.5 / temperature, 2**0.5 / step),
        paper_bound=min(0.25 / temperature, 2**0.5),
        spectral=0.31 / temperature,
        spectral_highest=0.45 / temperature,
        frobenius=0.4 / temperature,
    )


def _critical(expectation: str, size: int | None) -> CriticalN:
    last = 40
    edge = size or 60
    statistics = [max(0.05, min(1.0, 1.0 - 0.75 * n / edge)) for n in range(1, last + 1)]
    return CriticalN(
        expectation=expectation,
        size=size,
        share=None if size is None else size / 512,
        level=0.01,
        statistics=statistics,
        p_values=[min(1.0, 1e-5 * 1.6**n) for n in range(1, last + 1)],
    )


def _normalizer(name: str, change: float, half: float | None) -> NormalizerPoint:
    return NormalizerPoint(
        normalizer=name,
        loss=around(3.21 + change, half),
        change=around(change, half),
        entropy=3.3,
        effective_keys=41.2,
        first_key=0.31,
        zeros=0.0 if change == 0 else 0.83,
        row_sum=1.0,
        mass=0.55,
        separability=0.81,
        jacobian_spectral=None if change < 0 else 0.22,
    )
