"""Section "attention": what every attention head does on a text."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn

from wideneck.attached.hook import use
from wideneck.attached.normalizer_places import placed
from wideneck.attention.config import Normalizer, name_of, to_dict
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
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.text_part import text_config

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
    ranks: Ranks = ALONE,
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
        ranks: the processes that share the windows.
        progress: called as progress(stage, done, total).

    Raises:
        UnmeasurableError: the model's losses are not finite, its attention does not go through
            transformers' interface, or does more than its normalizer.
        WideneckError: the settings do not fit the model.
    """
    ids, notes = windows.ids, list[str]()
    run = _Run(reader, windows, settings, ranks, progress, notes)
    run.check_asked(normalizers)
    length = ids.shape[1]
    count = length if settings.num_queries is None else min(settings.num_queries, length)
    # At equal distances, the last position always among them.
    queries = torch.linspace(length / count - 1, length - 1, count).round().long()
    with clock("attention"):
        own = reader.losses(ids[:1], windows.targets[:1])
        collector = Collector(settings, queries, seed)
        losses = run.read(collector, "attention heads")
        _check(reader.model, losses, own)
    collected = Collected(list(collector.layers.values()), settings, queries)
    collected.check()
    notes += collected.notes()
    ablation, comparison = None, []
    if settings.ablation_context:
        with clock("replacing heads"):
            ablation = measured(
                "what replacing a head costs",
                partial(run.ablation, collector.layers),
                None,
                notes,
            )
    heads = collected.heads(ablation)
    if normalizers:
        with clock("other normalizers"):
            comparison = run.compare(normalizers, losses, collector, seed)
    first, state = collected.layers[0], placed(reader.model)
    config = first.config if state is None else state.config  # with the numbers it started from
    gaps = torch.cat([gap for x in collected.layers for gap in x.gap])
    gaps = gaps[~gaps.isnan()]  # a head of one vector has none
    return AttentionAudit(
        normalizer=describe(config) + _sinks(collected.layers),
        route=_route(reader.model, collected.layers),
        num_layers=len(collected.layers),
        num_heads=max(len(layer.gap[0]) for layer in collected.layers),
        context=length,
        num_windows=len(ids),
        num_queries=len(queries),
        reference_size=settings.reference_size,
        vectors=settings.vectors,
        choices=_choices(settings),
        head_dim=first.head_dim,
        temperature=first.temperature,
        smallest_gap=float(gaps.min()) if len(gaps) else math.nan,
        jacobian_limit=_limit(config, length),
        loss=estimate(losses, windows.document),
        ablation_tokens=0 if ablation is None else len(ids) * run.num_ablated,
        heads=heads,
        by_size=collected.sizes(),
        by_length=collected.lengths(),
        by_step=collected.steps(),
        critical=collected.critical(),
        links=[] if ablation is None else _links(heads),
        comparison=comparison,
        notes=notes,
    )


@dataclass(frozen=True)
class _Run:
    """The model over the windows, as often as it takes."""

    reader: Reader
    windows: Windows
    settings: AttentionSettings
    ranks: Ranks
    progress: Progress | None
    notes: list[str]

    @property
    def prefix(self) -> int:
        """Tokens that the tokenizer puts in front of each window."""
        return self.windows.ids.shape[1] - self.windows.targets.shape[1]

    @property
    def num_ablated(self) -> int:
        """Predictions of each window that ablation is measured on."""
        return min(self.settings.ablation_context, self.windows.ids.shape[1]) - self.prefix

    def check_asked(self, normalizers: Sequence[Normalizer]) -> None:
        """Refuse before the work what could not be done after it."""
        state, context = placed(self.reader.model), self.settings.ablation_context
        if normalizers and state is not None:
            raise WideneckError(
                f"This model is under {name_of(state.config)} already; normalizers are compared "
                "from a model's own attention."
            )
        if 0 < context <= self.prefix:
            raise WideneckError(
                f"An ablation_context of {context} holds nothing but what the tokenizer puts in "
                f"front ({self.prefix}): ask for more, or for 0."
            )
        for config in normalizers:
            check_start(config)

    def read(self, collector: Collector, stage: str) -> Tensor:
        """Losses (W, T); the collector fills."""
        model, windows, progress = self.reader.model, self.windows, self.progress
        if progress is not None:
            total = text_config(model.config).num_hidden_layers * len(windows.ids)
            collector.on_call = lambda done: progress(stage, min(done, total), total)

        def read(i: int) -> tuple[Tensor, list[dict[str, Any]]]:
            collector.begin(i)
            part = slice(i, i + 1)
            losses = self.reader.losses(windows.ids[part], windows.targets[part], collector)
            return losses, collector.taken()

        found = []
        with collector.listening(model, windows.ids[:1, :2]):
            for losses, taken in self.ranks.in_order(len(windows.ids), read):
                collector.keep(taken)
                found.append(losses)
        if not collector.layers:
            raise UnmeasurableError(
                f"{type(model).__name__} called no attention function of transformers' interface, "
                "so its heads cannot be measured."
            )
        return torch.cat(found)

    def ablation(self, layers: dict[nn.Module, Layer]) -> list[list[Estimate]]:
        """By layer and head, what it costs to replace it."""
        base, replaced = ablation_losses(
            self.reader,
            {module: len(layer.gap[0]) for module, layer in layers.items()},
            self.windows.ids[:, : self.prefix + self.num_ablated],
            self.windows.targets[:, : self.num_ablated],
            ranks=self.ranks,
            progress=self.progress,
            notes=self.notes,
        )
        document = self.windows.document
        return [[estimate(head - base, document) for head in heads] for heads in replaced]

    def compare(
        self, normalizers: Sequence[Normalizer], losses: Tensor, own: Collector, seed: int
    ) -> list[NormalizerPoint]:
        """The model under each normalizer; its own first, for which all is known already."""
        settings = replace(self.settings, sizes=(self.settings.reference_size,), critical_up_to=0)
        name = f"softmax{_sinks(list(own.layers.values()))}, the model's own"
        points = [self._point(name, losses, losses, own)]
        for config in normalizers:
            collector = Collector(settings, own.queries, seed, geometry_only=True)
            changed = measured(
                f"the model under {name_of(config)}",
                partial(self._read_under, config, collector),
                None,
                self.notes,
            )
            if changed is not None:
                name = describe(config) + _sinks(list(collector.layers.values()))
                points.append(self._point(name, changed, losses, collector))
        return points

    def _read_under(self, config: Normalizer, collector: Collector) -> Tensor:
        """`read` with the normalizer in the model, which has its own again afterwards."""
        try:
            use(self.reader.model, config)
        except WideneckError as error:  # checked before: it is the model that does not allow it
            raise UnmeasurableError(str(error)) from error
        try:
            return self.read(collector, f"under {name_of(config)}")
        finally:
            use(self.reader.model, "softmax")

    def _point(
        self, name: str, losses: Tensor, own: Tensor, collector: Collector
    ) -> NormalizerPoint:
        layers = list(collector.layers.values())
        collected = Collected(layers, collector.settings, collector.queries)
        rows, at = [row_means(layer) for layer in layers], collected.at
        jacobian = torch.cat([torch.stack(x.jacobian)[:, 0].flatten() for x in layers])

        def over_heads(values: list[Tensor]) -> float:
            return float(torch.cat(values).double().nanmean())

        of_rows = ("entropy", "effective_keys", "first_key")
        return NormalizerPoint(
            normalizer=name,
            route=_route(self.reader.model, layers),
            loss=estimate(losses, self.windows.document),
            change=estimate(losses - own, self.windows.document),
            **{key: over_heads([row[key] for row in rows]) for key in of_rows},
            zeros=over_heads([torch.stack(x.zeros).mean(0) for x in layers]),
            row_sum=over_heads([torch.stack(x.row_sum).mean((0, 2)) for x in layers]),
            mass=over_heads([x[at] for x in collected.by_head("mass")]),
            separability=over_heads([x[at] for x in collected.by_head("share")]),
            jacobian_spectral=known(jacobian.double().mean()),
        )


def describe(config: Normalizer) -> str:
    """Name and numbers, such as "ssmax (scale 0.43, bias 0)"."""
    numbers = [
        f"{key} {value:g}"
        for key, value in to_dict(config).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return name_of(config) + (f" ({', '.join(numbers)})" if numbers else "")


def _sinks(layers: Sequence[Layer]) -> str:
    """What stands beside a normalizer in layers where the model has sinks of its own."""
    count = sum(layer.has_sink for layer in layers)
    if not count:
        return ""
    where = "" if count == len(layers) else f" in {count} of {len(layers)} layers"
    return f" with sinks{where}"


def _route(model: Any, layers: Sequence[Layer]) -> str:
    """How the attention is computed outside of the audit, by layers where they differ."""
    routes = Counter(layer.route for layer in layers)
    if not any(routes):
        return f"the model's own ({model.config._attn_implementation})"
    if len(routes) == 1:
        return next(iter(routes))
    return "; ".join(f"{route} in {count} layers" for route, count in routes.items())


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


def _limit(config: Normalizer, context: int) -> float | None:
    """Over rows of 1 to `context` visible keys, in whose number every norm is monotone."""
    if config.learns:
        return None
    limit = max(config.largest_norm(1), config.largest_norm(context))
    return limit if limit < float("inf") else None


def _links(heads: list[HeadMeasures]) -> list[Link]:
    """Rank correlations over heads, with and without what depth explains."""
    losses = [head.ablation.value for head in heads if head.ablation is not None]
    names = [*LINKED, *(["jacobian_spectral"] if heads[0].jacobian_spectral is not None else [])]
    depth = [float(head.layer) for head in heads]
    found = []
    for name in names:
        values = [getattr(head, name) for head in heads]
        spearman, partial_spearman = math.nan, None
        if all(x is not None and math.isfinite(x) for x in (*values, *losses)):
            values = _merged(values)
            if len(set(values)) < 2 or len(set(losses)) < 2:
                continue
            spearman = float(spearmanr(values, losses).statistic)
            partial_spearman = _partial(values, losses, depth)
        found.append(Link(measure=name, spearman=spearman, spearman_without_depth=partial_spearman))
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
