"""Section "attention": what every attention head does on a text."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn

from wideneck.attached.hook import use
from wideneck.attached.normalizer_places import placed
from wideneck.attention.config import Normalizer, name_of, to_dict
from wideneck.attention.jacobian import largest_norm
from wideneck.attention.learned import check_start
from wideneck.audits.attention.ablation import ablation_losses
from wideneck.audits.attention.aggregate import Collected, known, row_means
from wideneck.audits.attention.collect import Collector, Layer
from wideneck.audits.attention.reading import Reader
from wideneck.audits.attention.results import AttentionAudit, HeadMeasures, Link, NormalizerPoint
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.measured import UnmeasurableError, measured
from wideneck.audits.states import Progress
from wideneck.data import Windows
from wideneck.errors import WideneckError

ROUNDING = 1e-6
"""Values of a measure that are this close, relative to their size, are equal: they are means of
float32, and two equal shares of keys would have different ranks."""

LINKED = ("effective_keys", "spread", "first_key", "mass", "distance", "separability")
"""Measures that are set beside the loss of ablation."""


def audit_attention(
    reader: Reader,
    windows: Windows,
    settings: AttentionSettings,
    clock: Clock,
    *,
    normalizers: Sequence[Normalizer] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> AttentionAudit:
    """Measure every head on the windows, and the model under other normalizers if asked.

    Args:
        reader: of a model in eval mode.
        windows: of `settings.context` tokens each.
        settings: what to measure.
        clock: takes the seconds of each step.
        normalizers: to put into the model in turn; it has its own again afterwards.
        seed: of random sets and directions.
        progress: called as progress(stage, done, total).

    Raises:
        UnmeasurableError: the model's losses are not finite, its attention does not go through
            transformers' interface, or does more than its normalizer.
        WideneckError: the settings do not fit the model.
    """
    ids = windows.ids
    _check_asked(reader.model, windows, settings, normalizers)
    queries = _queries(settings, ids.shape[1])
    with clock("attention"):
        own = reader.losses(ids[:1], windows.targets[:1])
        collector = Collector(settings, queries, seed, device=reader.model.device)
        losses = _read(reader, windows, collector, progress, "attention heads")
        _check(reader.model, losses, own)
    collected = Collected(list(collector.layers.values()), settings, queries)
    collected.check()
    notes, ablation = collected.notes(), None
    if settings.ablation_context:
        with clock("replacing heads"):
            ablation = measured(
                "what replacing a head costs",
                lambda: _ablation(reader, windows, collector.layers, settings, notes, progress),
                None,
                notes,
            )
    heads = collected.heads(ablation)
    comparison = []
    if normalizers:
        with clock("other normalizers"):
            comparison = _compare(
                reader,
                windows,
                settings,
                queries,
                normalizers,
                seed,
                losses,
                collector,
                notes,
                progress,
            )
    first = collected.layers[0]
    return AttentionAudit(
        normalizer=describe(_config(reader.model, first)),
        num_layers=len(collected.layers),
        num_heads=max(len(layer.gap[0]) for layer in collected.layers),
        context=ids.shape[1],
        num_windows=len(ids),
        num_queries=len(queries),
        reference_size=settings.reference_size,
        vectors=settings.vectors,
        choices=_choices(settings),
        head_dim=first.head_dim,
        temperature=first.temperature,
        smallest_gap=_smallest([gap for x in collected.layers for gap in x.gap]),
        jacobian_limit=_limit(_config(reader.model, first), ids.shape[1]),
        loss=estimate(losses, windows.document),
        ablation_tokens=0 if ablation is None else len(ids) * _ablated(settings, windows),
        heads=heads,
        by_size=collected.sizes(),
        by_length=collected.lengths(),
        by_step=collected.steps(),
        critical=collected.critical(),
        links=[] if ablation is None else _links(heads),
        comparison=comparison,
        notes=notes,
    )


def _smallest(gaps: list[Tensor]) -> float:
    """The smallest gap that is known; a head of one vector has none."""
    known = torch.cat(gaps)
    known = known[~known.isnan()]
    return float(known.min()) if len(known) else math.nan


def _check_asked(
    model: Any, windows: Windows, settings: AttentionSettings, normalizers: Sequence[Normalizer]
) -> None:
    """Refuse before the work what could not be done after it."""
    state = placed(model)
    if normalizers and state is not None:
        raise WideneckError(
            f"This model is under {name_of(state.config)} already; normalizers are compared from a "
            "model's own attention."
        )
    prefix = windows.ids.shape[1] - windows.targets.shape[1]
    if 0 < settings.ablation_context <= prefix:
        raise WideneckError(
            f"An ablation_context of {settings.ablation_context} holds nothing but what the "
            f"tokenizer puts in front ({prefix}): ask for more, or for 0."
        )
    for config in normalizers:
        check_start(config)


def describe(config: Normalizer) -> str:
    """Name and numbers, such as "ssmax (scale 0.43, bias 0)"."""
    numbers = [
        f"{key} {value:g}"
        for key, value in to_dict(config).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return name_of(config) + (f" ({', '.join(numbers)})" if numbers else "")


def _config(model: Any, first: Layer) -> Normalizer:
    """The normalizer that the model is under, with the numbers it started from."""
    state = placed(model)
    return first.config if state is None else state.config


def _queries(settings: AttentionSettings, length: int) -> Tensor:
    """Positions at equal distances, the last one always among them."""
    count = length if settings.num_queries is None else min(settings.num_queries, length)
    return torch.linspace(length / count - 1, length - 1, count).round().long()


def _read(
    reader: Reader,
    windows: Windows,
    collector: Collector,
    progress: Progress | None,
    stage: str,
) -> Tensor:
    """Losses (W, T); the collector fills."""
    found = []
    if progress is not None:
        layers = reader.model.config.get_text_config().num_hidden_layers
        total = layers * len(windows.ids)
        collector.on_call = lambda done: progress(stage, min(done, total), total)
    with collector.listening(reader.model, windows.ids[:1, :2]):
        for ids, targets in zip(windows.ids.split(1), windows.targets.split(1), strict=True):
            found.append(reader.losses(ids, targets, collector))
    if not collector.layers:
        raise UnmeasurableError(
            f"{type(reader.model).__name__} called no attention function of transformers' "
            "interface, so its heads cannot be measured."
        )
    return torch.cat(found)


def _check(model: Any, losses: Tensor, own: Tensor) -> None:
    """The weights that were measured must be the ones that the model predicts with."""
    if not bool(losses.isfinite().all()):
        raise UnmeasurableError(
            f"{type(model).__name__} has losses that are not finite on this text."
        )
    off = float((losses[:1] - own).abs().max())
    rounding = torch.finfo(model.dtype).eps ** 0.5
    if not off <= rounding * max(1.0, float(own.abs().max())):
        raise UnmeasurableError(
            f"{type(model).__name__} does more in its attention than its normalizer: with the "
            f"weights that the audit sees, losses differ by up to {off:.2g} nats."
        )


def _ablation(
    reader: Reader,
    windows: Windows,
    layers: dict[nn.Module, Layer],
    settings: AttentionSettings,
    notes: list[str],
    progress: Progress | None,
) -> list[list[Estimate]]:
    num_targets = _ablated(settings, windows)
    prefix = windows.ids.shape[1] - windows.targets.shape[1]
    base, replaced = ablation_losses(
        reader,
        {module: len(layer.gap[0]) for module, layer in layers.items()},
        windows.ids[:, : prefix + num_targets],
        windows.targets[:, :num_targets],
        progress=progress,
        notes=notes,
    )
    return [[estimate(head - base, windows.document) for head in heads] for heads in replaced]


def _ablated(settings: AttentionSettings, windows: Windows) -> int:
    """Predictions of each window that ablation is measured on."""
    prefix = windows.ids.shape[1] - windows.targets.shape[1]
    return min(settings.ablation_context, windows.ids.shape[1]) - prefix


def _limit(config: Normalizer, context: int) -> float | None:
    """Over rows of 1 to `context` visible keys, in whose number every norm is monotone."""
    if config.learns:
        return None
    limit = max(largest_norm(config, 1), largest_norm(config, context))
    return limit if limit < float("inf") else None


def _compare(
    reader: Reader,
    windows: Windows,
    settings: AttentionSettings,
    queries: Tensor,
    normalizers: Sequence[Normalizer],
    seed: int,
    losses: Tensor,
    own: Collector,
    notes: list[str],
    progress: Progress | None,
) -> list[NormalizerPoint]:
    """The model under each normalizer; its own first, for which all is known already."""
    model = reader.model
    settings = replace(settings, sizes=(settings.reference_size,), critical_up_to=0)
    document = windows.document
    own_layers = list(own.layers.values())
    points = [
        _point(
            "softmax, the model's own", losses, losses, own_layers, own.settings, queries, document
        )
    ]
    for config in normalizers:
        collector = Collector(settings, queries, seed, device=model.device, geometry_only=True)
        name = name_of(config)
        changed = measured(
            f"the model under {name}",
            partial(_read_under, config, reader, windows, collector, progress),
            None,
            notes,
        )
        if changed is None:
            continue
        layers = list(collector.layers.values())
        points.append(
            _point(describe(config), changed, losses, layers, settings, queries, document)
        )
    return points


def _read_under(
    config: Normalizer,
    reader: Reader,
    windows: Windows,
    collector: Collector,
    progress: Progress | None,
) -> Tensor:
    """`_read` with the normalizer in the model, which has its own again afterwards."""
    try:
        use(reader.model, config)
    except WideneckError as error:  # the config was checked before: the model does not allow it
        raise UnmeasurableError(str(error)) from error
    try:
        return _read(reader, windows, collector, progress, f"under {name_of(config)}")
    finally:
        use(reader.model, "softmax")


def _point(
    name: str,
    losses: Tensor,
    own: Tensor,
    layers: list[Layer],
    settings: AttentionSettings,
    queries: Tensor,
    document: Tensor,
) -> NormalizerPoint:
    rows = [row_means(layer) for layer in layers]
    collected = Collected(layers, settings, queries)

    def over_heads(values: list[Tensor]) -> float:
        return float(torch.cat(values).double().nanmean())

    at = collected.at
    jacobian = torch.cat([torch.stack(x.jacobian)[:, 0].flatten() for x in layers])
    return NormalizerPoint(
        normalizer=name,
        loss=estimate(losses, document),
        change=estimate(losses - own, document),
        entropy=over_heads([row["entropy"] for row in rows]),
        effective_keys=over_heads([row["effective_keys"] for row in rows]),
        first_key=over_heads([row["first_key"] for row in rows]),
        zeros=over_heads([torch.stack(x.zeros).mean(0) for x in layers]),
        row_sum=over_heads([torch.stack(x.row_sum).mean((0, 2)) for x in layers]),
        mass=over_heads([x[at] for x in collected.by_head("mass")]),
        separability=over_heads([x[at] for x in collected.by_head("share")]),
        jacobian_spectral=known(jacobian.double().mean()),
    )


def _links(heads: list[HeadMeasures]) -> list[Link]:
    """Rank correlations over heads, with and without what depth explains."""
    losses = [head.ablation.value for head in heads if head.ablation is not None]
    names = [*LINKED, *(["jacobian_spectral"] if heads[0].jacobian_spectral is not None else [])]
    depth = [float(head.layer) for head in heads]
    found = []
    for name in names:
        values = [getattr(head, name) for head in heads]
        if not all(x is not None and math.isfinite(x) for x in (*values, *losses)):
            unknown_link = Link(measure=name, spearman=math.nan, spearman_without_depth=None)
            found.append(unknown_link)
            continue
        values = _merged(values)
        if len(set(values)) < 2 or len(set(losses)) < 2:
            continue
        found.append(
            Link(
                measure=name,
                spearman=float(spearmanr(values, losses).statistic),
                spearman_without_depth=_partial(values, losses, depth),
            )
        )
    return found


def _merged(values: list[float]) -> list[float]:
    """The values, with one for all that rounding alone tells apart."""
    known: dict[float, float] = {}
    last = -math.inf
    for value in sorted(set(values)):
        near = value - last <= ROUNDING * abs(value)
        known[value] = known[last] if near else value
        last = value
    return [known[value] for value in values]


def _partial(values: list[float], losses: list[float], depth: list[float]) -> float | None:
    """The correlation of ranks after a line in the layer's number is taken off both, if any are."""
    columns = torch.tensor(
        [rankdata(values).tolist(), rankdata(losses).tolist()], dtype=torch.float64
    ).T
    design = torch.tensor([[1.0, d] for d in depth], dtype=torch.float64)
    rest = columns - design @ torch.linalg.lstsq(design, columns, driver="gelsd").solution
    if bool((rest.norm(dim=0) < 1e-9 * columns.norm(dim=0)).any()):
        return None
    return float(torch.corrcoef(rest.T)[0, 1])


def _choices(settings: AttentionSettings) -> list[str]:
    """What differs from the defaults and is not a field of the report."""
    told = {"context", "num_windows", "num_queries", "sizes", "reference_size", "vectors"}
    default = AttentionSettings()
    return [
        f"{field.name} = {getattr(settings, field.name)}"
        for field in fields(settings)
        if field.name not in told and getattr(settings, field.name) != getattr(default, field.name)
    ]
