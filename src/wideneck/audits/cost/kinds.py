"""The cheaper heads that section "cost" compares, each made when its turn comes.

Shapes: V vocabulary, D hidden size, R rank.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from wideneck.audits.cost.cheaper import (
    Cheaper,
    dense,
    low_rank,
    rounded_logits,
    rounded_operands,
)
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.truncated import Truncation, fit_truncation
from wideneck.functional.gram import gram
from wideneck.heads.low_rank import balance
from wideneck.rounding.format import Format
from wideneck.rounding.formats import FORMATS
from wideneck.rounding.gptq import gptq
from wideneck.rounding.grid import Grid
from wideneck.rounding.scale_search import best_scales
from wideneck.rounding.scaled import under

BETTER = ("Q4_0", "NVFP4")
"""Formats whose scales and codes are fitted as well: one of integers, one of floats.  Above four
bits there is little to gain."""
SHIFTED = ("Q4_0", "fp8 row")
TRAPPED = "Q4_0"
"""The format before which the uniform mean row is taken off, for comparison."""
SHARES = (0.5, 0.75, 0.875)
"""Ranks over D."""
FACTORS = ("bf16", "int8 row")
"""How the factors of a head of low rank are stored."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A kind of cheaper head, before its matrix is made."""

    name: str
    sort: str
    about: str
    num_bytes: int
    make: Callable[[], Cheaper]
    format: Format | None = None
    """Whose noise the errors are, where the whole matrix is rounded to nearest."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What the fitted half of the text says."""

    hidden: Tensor
    """(N, D) float64."""
    prediction: Tensor
    """pi (V,): the mean prediction."""
    second_moment: Tensor
    """M = E[x x^T] (D, D)."""
    enough: bool
    """Whether the states are twice as many as their dimensions."""


def made(layer: OutputLayer, fitted: Fitted, notes: list[str]) -> Iterator[Made]:
    """All of them; what does not fit the matrix is named in `notes`."""
    shape = layer.weight.shape
    V, D = shape
    yield Made(
        name="bf16 logits",
        sort="logits",
        about="the head's own logits, rounded to bfloat16",
        num_bytes=2 * V * D,
        make=rounded_logits,
    )
    yield Made(
        name="fp32 logits of bf16",
        sort="logits",
        about="states and matrix rounded to bfloat16, logits in float32",
        num_bytes=2 * V * D,
        make=lambda: rounded_operands(layer),
    )
    fitting = {}
    for name, format in FORMATS.items():
        reason = format.refusal(V, D)
        if reason is None:
            fitting[name] = format
            yield _rounded(layer, format)
        else:
            notes.append(f"{name} is left out: {reason}.")
    if layer.logit_map.is_linear:
        yield from _shifted(layer, fitted, fitting)
    else:
        notes.append(
            "A cap on the logits sees a vector that is taken off every row, so nothing is shifted."
        )
    if not fitted.enough:
        notes.append(
            f"Heads of low rank and fitted codes are left out: {len(fitted.hidden):,} tokens to "
            f"fit on are fewer than twice the hidden size {D:,}; audit more tokens, some {4 * D:,} "
            "or more."
        )
        return
    for name in BETTER:
        grid = fitting[name].grid(D) if name in fitting else None
        if grid is not None:
            yield from _better(layer, fitted, fitting[name], grid)
    yield from _low_rank(layer, fitted)


def _rounded(layer: OutputLayer, format: Format) -> Made:
    return Made(
        name=format.name,
        sort="format",
        about=format.about,
        num_bytes=format.num_bytes(*layer.weight.shape),
        make=lambda: dense(layer, format.rounded(layer.weight)),
        format=format,
    )


def _shifted(layer: OutputLayer, fitted: Fitted, formats: dict[str, Format]) -> Iterator[Made]:
    """W less one vector: no softmax sees it, and a tied embedding would have to keep it."""
    weighted = (fitted.prediction @ layer.weight.double()).float()
    shifts = [(name, "mean row weighted by pi", weighted) for name in SHIFTED]
    shifts.append((TRAPPED, "uniform mean row", layer.weight.double().mean(0).float()))
    for name, what, shift in shifts:
        if name not in formats:
            continue
        format = formats[name]

        def make(format: Format = format, shift: Tensor = shift) -> Cheaper:
            return dense(layer, format.rounded(layer.weight - shift).add_(shift))

        yield Made(
            name=f"{name}, less {what}",
            sort="shifted",
            about=f"the {what} taken off before rounding, which a softmax does not see",
            num_bytes=format.num_bytes(*layer.weight.shape),
            make=make,
        )


def _better(layer: OutputLayer, fitted: Fitted, format: Format, grid: Grid) -> Iterator[Made]:
    weights = (fitted.prediction * (1 - fitted.prediction)).float()
    scales: list[Tensor] = []  # searched once, for both

    def found() -> Tensor:
        if not scales:
            scales.append(best_scales(grid, layer.weight, fitted.second_moment, weights))
        return scales[0]

    def with_codes() -> Tensor:
        codes = gptq(format, layer.weight, fitted.second_moment, scales=found())
        assert codes is not None
        return codes

    for make, name, about in (
        (lambda: under(grid, layer.weight, found()), "scales", "scales searched"),
        (with_codes, "GPTQ", "scales searched, and codes that make up for each other's errors"),
    ):
        yield Made(
            name=f"{format.name}, {name}",
            sort="better",
            about=f"{format.about}; {about}, on hidden states of the other half",
            num_bytes=format.num_bytes(*layer.weight.shape),
            make=lambda make=make: dense(layer, make()),
        )


def _low_rank(layer: OutputLayer, fitted: Fitted) -> Iterator[Made]:
    """Fisher truncations, with balanced factors."""
    V, D = layer.weight.shape
    cut: list[Truncation] = []

    def factors(rank: int, format: Format) -> Cheaper:
        if not cut:  # V x D numbers, from the first that asks to the last
            mean, centred = gram(layer.weight)
            cut.append(
                fit_truncation(
                    "fisher", layer.weight, mean, centred, fitted.hidden, fitted.prediction
                )
            )
        inner, outer = cut[0].inner[:, :rank], cut[0].outer[:, :rank]
        scale = balance(inner, outer).float()
        up, down = format.rounded(outer * scale), format.rounded((inner / scale).T)
        return low_rank(layer, up, down, cut[0].mean)

    for rank in sorted({max(1, int(D * share)) for share in SHARES}):
        for name in FACTORS:
            format = FORMATS[name]
            if rank >= D or format.refusal(V, rank) or format.refusal(rank, D):
                continue
            yield Made(
                name=f"rank {rank}, {name}",
                sort="low rank",
                about=f"the audit's fisher truncation, both factors in {name}",
                num_bytes=format.num_bytes(V, rank) + format.num_bytes(rank, D) + 4 * D,
                make=lambda rank=rank, format=format: factors(rank, format),
            )
