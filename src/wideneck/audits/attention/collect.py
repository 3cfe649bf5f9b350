"""One pass over the text: every layer's attention is reduced as it happens.

What is kept of a head are numbers for each query, never its map: entropy and the first key's
weight for all of them, geometry and Jacobians for the queries that were asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wideneck.attention.call import (
    Call,
    dense_scores,
    every_head,
    mixed_values,
    num_visible,
    visible_keys,
)
from wideneck.attention.config import Normalizer, Softmax
from wideneck.attention.dense import all_weights
from wideneck.attention.forward import attend
from wideneck.attention.learned import LearnedNormalizer
from wideneck.attention.routes import choose
from wideneck.audits.attention.critical import Scan, scan_sizes
from wideneck.audits.attention.distance import SelectionDistances, selection_distances
from wideneck.audits.attention.jacobian import finite_difference, frobenius_norm, spectral_norm
from wideneck.audits.attention.reading import watched
from wideneck.audits.attention.separability import separability
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.errors import WideneckError
from wideneck.models import ask
from wideneck.models.devices import CPU, multiplies
from wideneck.models.reading import hearing

DISTANCES = tuple(field.name for field in fields(SelectionDistances))
SEPARABILITY = ("share", "lower", "upper")
SEEDS = 2654435761
"""Between the seeds of two windows: odd, so that they differ in the 32 bits that torch uses."""


@dataclass
class Layer:
    """What one layer's heads did, a list entry for each window."""

    config: Normalizer
    temperature: float
    """1 over the factor on q k."""
    head_dim: int
    has_sink: bool = False
    """Whether the model has a sink of its own there."""
    route: str = ""
    """By which a normalizer of ours computes it outside of the audit; empty for the model's own."""
    visible: list[Tensor] = field(default_factory=list)
    """(Q,): keys each query sees."""
    entropy: list[Tensor] = field(default_factory=list)
    """(H, Q)."""
    first_key: list[Tensor] = field(default_factory=list)
    """(H, Q): weight of the first key."""
    importance: list[Tensor] = field(default_factory=list)
    """(H,): mean weight of the first key over the queries that see it."""
    zeros: list[Tensor] = field(default_factory=list)
    """(H,): share of visible keys of weight 0."""
    row_sum: list[Tensor] = field(default_factory=list)
    """(H, Q)."""
    geometry: list[Tensor] = field(default_factory=list)
    """(12, sizes, H, q): `DISTANCES`, then `SEPARABILITY`."""
    gap: list[Tensor] = field(default_factory=list)
    """(H,): the smallest distance between two vectors."""
    jacobian: list[Tensor] = field(default_factory=list)
    """(2, H, q): spectral and Frobenius norm; NaN without a closed form."""
    differences: list[Tensor] = field(default_factory=list)
    """(3 + steps, temperatures, H): spectral, Frobenius, finite differences, means over q; and the
    largest spectral."""
    scan: list[Scan] = field(default_factory=list)
    """None where it was not asked for."""

    def add(self, **window: Any) -> None:
        """What was found on one window, by field."""
        for name, found in window.items():
            getattr(self, name).append(found.cpu())

    def taken(self) -> dict[str, Any]:
        """What the last window added, which goes from here."""
        lists = {f.name: getattr(self, f.name) for f in fields(self)}
        return {n: x.pop() for n, x in lists.items() if isinstance(x, list) and x}


class Collector:
    """A watcher that measures; `layers` fills as the model runs.

    Args:
        settings: what to measure.
        queries: (q,) positions that geometry and Jacobians are measured at.
        seed: of random sets and directions, with the number of each window.
        geometry_only: leave out finite differences and the scan, for comparisons.
    """

    def __init__(
        self,
        settings: AttentionSettings,
        queries: Tensor,
        seed: int,
        *,
        geometry_only: bool = False,
    ):
        self.settings, self.queries, self._seed = settings, queries, seed
        self.begin(0)
        self.geometry_only = geometry_only
        self.layers: dict[nn.Module, Layer] = {}
        self.embeddings: Tensor | None = None
        self.entering: dict[nn.Module, Tensor] = {}
        self.num_calls = 0
        self.on_call: Callable[[int], None] | None = None
        """Told after each layer how many there have been."""

    def begin(self, window: int) -> None:
        """Draw anew for this window, on the CPU.

        So its numbers depend neither on the device nor on which windows this process has read.
        """
        self.generator = torch.Generator().manual_seed((self._seed + SEEDS * window) % 2**63)

    def taken(self) -> list[dict[str, Any]]:
        """What the last window added, by layer; it goes from here, and `keep` takes it."""
        return [layer.taken() for layer in self.layers.values()]

    def keep(self, window: list[dict[str, Any]]) -> None:
        """Add what was found on the next window."""
        for layer, found in zip(self.layers.values(), window, strict=True):
            layer.add(**found)

    def __call__(self, module: nn.Module, call: Call, config: Normalizer) -> Tensor:
        """Measure one layer on one window, and give its output."""
        _, value = every_head(call)
        every_weight = all_weights(call, config)  # a sink's of the model's own is the first
        weights = every_weight if call.sink is None else every_weight[..., 1:]
        visible = visible_keys(call)
        out = mixed_values(weights, call)
        # Not every accelerator has float64, in which norms are taken.
        there = value.device if multiplies(value.device, torch.float64) else CPU
        every_weight, weights, value = (x.to(there) for x in (every_weight, weights, value))
        visible = None if visible is None else visible.to(there)
        seen = _of_all_heads(visible, weights)
        if module not in self.layers:
            self.layers[module] = Layer(
                config,
                1 / call.scaling,
                value.shape[-1],
                has_sink=call.sink is not None,
                route=_route(module, call, config),
            )
        layer = self.layers[module]
        self._rows(layer, weights[0], seen)
        self._geometry(layer, weights[0], seen, self._vectors(module, value[0]))
        n = num_visible(call).to(there).expand(*weights.shape[:-1], 1)[0]
        self._jacobian(layer, every_weight[0], n, _at(config, self.queries))
        plain = isinstance(config, Softmax) and call.softcap is None and call.sink is None
        if plain and not self.geometry_only:
            self._differences(layer, dense_scores(call)[0].to(there) / call.scaling, seen)
        self.num_calls += 1
        if self.on_call is not None:
            self.on_call(self.num_calls)
        return out

    @contextmanager
    def listening(self, model: Any, ids: Tensor) -> Iterator[None]:
        """Inside, hidden states and embeddings are noted where the geometry is theirs.

        Args:
            model: whose attention layers are found by running it on `ids` (1, T).
        """
        vectors = self.settings.vectors
        layers = attention_layers(model, ids) if vectors == "hidden" else []
        table = [model.get_input_embeddings()] if vectors == "embeddings" else []

        def embedded(_: nn.Module, output: Tensor) -> None:
            self.embeddings = output

        with (
            hearing(before=layers, seen=self.entering.__setitem__),
            hearing(after=table, seen=embedded),
        ):
            yield

    def _rows(self, layer: Layer, weights: Tensor, seen: Tensor) -> None:
        zeros = ((weights == 0) & seen).sum((1, 2)) / seen.sum()
        layer.add(
            visible=seen.sum(-1),
            entropy=entropy(weights),
            first_key=weights[..., 0].clone(),
            importance=sink_importance(weights, seen),
            zeros=zeros.where(weights.isfinite().all(-1).all(-1), torch.nan),
            row_sum=weights.sum(-1),
        )

    def _geometry(self, layer: Layer, weights: Tensor, seen: Tensor, vectors: Tensor) -> None:
        settings, queries = self.settings, self.queries
        weights, seen = weights[:, queries], seen[queries]
        if settings.include_masked:
            seen = torch.ones_like(seen)
        if settings.drop_first:
            seen = seen.clone()
            seen[:, 0] = False
            weights = weights.clone()
            weights[..., 0] = 0
        unit = F.normalize(vectors, dim=-1)
        far = unit if settings.normalize_distance else vectors
        found = selection_distances(
            weights, far, seen, settings.sizes, generator=self.generator, draws=settings.draws
        )
        apart = separability(
            weights, unit if settings.normalize_geometry else vectors, seen, settings.sizes
        )
        named = {**vars(found), **vars(apart)}
        geometry = torch.stack([named[name] for name in (*DISTANCES, *SEPARABILITY)])
        layer.add(geometry=geometry, gap=apart.delta)
        if settings.critical_up_to and not self.geometry_only:
            layer.add(
                scan=scan_sizes(
                    weights, far, seen, settings.critical_up_to, generator=self.generator
                )
            )

    def _jacobian(self, layer: Layer, weights: Tensor, n: Tensor, config: Normalizer) -> None:
        weights = weights[:, self.queries]
        form = config.derivative(weights, n[:, self.queries].to(weights.dtype))
        if form is None:
            layer.add(jacobian=torch.full((2, *weights.shape[:2]), torch.nan))
            return
        # With a sink, how the keys' weights move with the keys' scores.
        arguments = form.diagonal[..., 1:] if layer.has_sink else form.diagonal, form.rank_one
        norms = torch.stack([spectral_norm(*arguments), frobenius_norm(*arguments)])
        layer.add(jacobian=(norms * form.factor).float())

    def _differences(self, layer: Layer, scores: Tensor, seen: Tensor) -> None:
        scores, seen = scores[:, self.queries], seen[self.queries]
        hidden = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        rows = []
        first = next(iter(self.layers.values()))
        for temperature in temperatures(self.settings, first.temperature):
            p = (hidden / temperature).softmax(-1).masked_fill_(~seen, 0)
            spectral, frobenius = (
                norm(p, 1.0) / temperature for norm in (spectral_norm, frobenius_norm)
            )
            steps = [
                finite_difference(scores, seen, temperature, step, self.generator).mean(1)
                for step in self.settings.steps
            ]
            rows.append(
                torch.stack([spectral.mean(1), frobenius.mean(1), *steps, spectral.amax(1)])
            )
        layer.add(differences=torch.stack(rows, 1))

    def _vectors(self, module: nn.Module, values: Tensor) -> Tensor:
        """The x_i, (H, K, d), that the settings choose."""
        kind = self.settings.vectors
        if kind == "values":
            return values.float()
        states = self.embeddings if kind == "embeddings" else self.entering.get(module)
        assert states is not None
        return states[0].float().to(values.device).expand(len(values), *states.shape[1:])


def attention_layers(model: Any, ids: Tensor) -> list[nn.Module]:
    """The layers that call the attention function, in the order in which they run."""
    found: list[nn.Module] = []

    def note(module: nn.Module, call: Call, config: Normalizer) -> Tensor:
        found.append(module)
        return attend(call, config)

    with watched(model, note):
        ask(model, input_ids=ids, use_cache=False)
    return found


def temperatures(settings: AttentionSettings, own: float) -> list[float]:
    """Those asked for and the model's own, ascending."""
    return sorted({*settings.temperatures, own})


def _route(module: nn.Module, call: Call, config: Normalizer) -> str:
    normalizer: Any = getattr(module, "normalizer", None)
    if not isinstance(normalizer, LearnedNormalizer):
        return ""
    return str(choose(call, config, normalizer.kernel))


def _of_all_heads(visible: Tensor | None, weights: Tensor) -> Tensor:
    """(Q, K) of a batch of one."""
    if visible is None:
        return torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device)
    if visible.ndim == 4 and visible.shape[1] != 1:
        raise WideneckError(
            f"The attention mask has shape {tuple(visible.shape)}, one for each head; the audit "
            "knows masks that all heads share."
        )
    return visible.reshape(visible.shape[-2:])


def _at(config: Normalizer, queries: Tensor) -> Normalizer:
    """The normalizer at some queries, with numbers that broadcast against (H, q, K)."""
    by_query = {
        name: x[0][:, queries]
        for name, x in vars(config).items()
        if isinstance(x, Tensor) and x.ndim == 4
    }
    return replace(config, **by_query)


@torch.no_grad()
def entropy(weights: Tensor) -> Tensor:
    """Entropy of each row in nats: (..., K) to (...).

    A row that sums to m < 1 is described by weights / m; a row of zeros has entropy 0.

    Args:
        weights: (..., K) >= 0.
    """
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    total = weights.sum(-1, keepdim=True)
    shares = weights / total.where(total > 0, 1)
    return torch.special.entr(shares, out=shares).sum(-1)


@torch.no_grad()
def sink_importance(weights: Tensor, visible: Tensor, key: int = 0) -> Tensor:
    """Mean weight of one key over the queries that see it: (..., Q, K) to (...).

    Gu et al. 2024 (arXiv:2410.10781), where a head has a sink if this exceeds 0.3.  NaN where no
    query sees the key.

    Args:
        weights: (..., Q, K).
        visible: (Q, K) or (..., Q, K) bool.
        key: the first of the sequence in the paper.
    """
    seen = visible[..., key].expand(weights.shape[:-1])
    column = weights[..., key].to(torch.promote_types(weights.dtype, torch.float32))
    return (column * seen).sum(-1) / seen.sum(-1)
