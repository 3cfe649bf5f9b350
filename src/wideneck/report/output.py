"""How a report shows section "output": the output layer on a text."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from wideneck.audits.output import OutputAudit
from wideneck.audits.output.in_doubt import InDoubt
from wideneck.audits.output.log_prob_rank import LogProbRank
from wideneck.audits.output.own_head import section
from wideneck.audits.output.rank_cost import RankCost, RankLoss
from wideneck.report import charts
from wideneck.report.numbers import (
    basis,
    counted,
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
from wideneck.report.parts import (
    BOTH,
    Caution,
    Column,
    Details,
    Heading,
    Link,
    Notes,
    Number,
    Numbers,
    Pair,
    Panel,
    Strong,
    Table,
    by_item,
    by_measure,
    line,
    note,
)
from wideneck.report.reference import Reference
from wideneck.report.section import Section

LEGEND = (
    "Dots: measured, with 95 % intervals. Rings: predicted. Dotted: what it costs to predict "
    "from the frequencies of the text alone, or uniformly. Losses under 0.001 nat are not drawn. "
    "The prediction is"
)
LOGITS = (
    ("mean", "mean", number),
    ("standard deviation", "std", number),
    ("spread over the vocabulary", "spread", number),
    ("smallest", "minimum", number),
    ("largest", "maximum", number),
)


def summary(output: OutputAudit) -> list[str]:
    """The loss, and what half of the ranks would cost."""
    nats = output.loss.nats_per_token
    if not known(nats.value):
        return [f"The model's loss on {output.num_tokens:,} tokens is not measurable."]
    found = [
        f"On {output.num_tokens:,} tokens the model loses {estimate(nats)} nats a token, where a "
        f"uniform guess loses {number(output.loss.uniform_nats)}" + f" ({basis(nats)}).",
    ]
    for point in [p for p in half_rank(output)[:1] if known(p.measured.value)]:
        found.append(
            f"Cutting the head to {point.rank:,} of {output.hidden_size:,} ranks costs "
            f"{estimate(point.measured)} nats a token ({point.method}-weighted, without "
            "retraining)."
        )
    return found


def blocks(output: OutputAudit, reference: Reference) -> Iterator[Any]:
    """Loss; nats lost at every rank; ranks, states and logits."""
    logits, unigram = output.logit_map, reference["output.loss.unigram_nats"]
    yield Heading("Output", "output", "Output")
    scale = "" if logits.kind == "identity" else f", scale {number(logits.scale)}"
    cap = "" if logits.cap is None else f", cap {number(logits.cap)}"
    yield note(
        f"{number(output.num_tokens)} predictions in windows of {number(output.window)}, from "
        f"{counted(output.num_documents, 'document')}; ",
        Link("logit map", "output.logit_map.kind"),
        f" {logits.kind}{scale}{cap}. In brackets: {basis(output.loss.nats_per_token)}.",
        css="facts",
    )
    yield note(Caution(reference["output.window"].caution))
    yield Numbers("output", [*_numbers(output)])
    yield Notes(output.notes)
    yield note(
        f"Uniform: {reference['output.loss.uniform_nats'].definition} Unigram: "
        f"{unigram.definition}",
        Caution(unigram.caution),
    )
    yield from _cost(output, reference)
    yield from _in_doubt(output.in_doubt)
    rank = output.rank
    yield Heading("Ranks, states and logits", "rank")
    yield Pair(
        [
            Panel(
                charts.log_prob_chart(rank.singular_values, rank.press_tolerance, rank.bound),
                f"{number(rank.num_contexts)} contexts by the vocabulary. A numerical rank depends "
                "on its tolerance and on the number of contexts.",
            ),
            Panel(
                charts.anisotropy_chart(output.anisotropy),
                "0 for random directions. Dominated by the mean state: a description, not a "
                "defect.",
            ),
            _ranks(rank),
            by_measure(
                "Logits", [("score", "output.logits", output.logits)], LOGITS, "output.logits"
            ),
        ]
    )


def _cost(output: OutputAudit, reference: Reference) -> Iterator[Any]:
    cost, base = output.rank_cost, "output.rank_cost.points"
    yield Heading("Nats lost at rank r", "cost", "Nats lost")
    yield note(
        "The head is replaced by a truncation of rank r and the loss measured, with the rest of "
        f"the model as it is: fitted on {number(cost.num_fit_tokens)} tokens, measured on "
        f"{number(cost.num_test_tokens)} others. Whitened keeps the logits on the hidden states "
        "that occur; fisher keeps them where the prediction feels it."
    )
    if cost.skipped:
        yield note(Strong("Not measured:"), f" {cost.skipped}.", css="flag")
        yield line(f"Not measured: {cost.skipped}.")
    caution = reference[f"{base}[].predicted"].caution if cost.points else ""
    drawn = (
        (
            ("whitened", "fisher"),
            "Truncations fitted to the data",
            f"{LEGEND} {caution[:1].lower()}{caution[1:]}",
        ),
        (("plain", "centred"), "Truncations of the weights alone", reference[base].caution),
    )
    found = [(charts.cost_chart(output, which, title), about) for which, title, about in drawn]
    yield Pair([Panel(chart, about) for chart, about in found if chart is not None])
    yield from (_cost_table(cost, method) for method in ("fisher", "whitened"))
    yield Details(
        ["Plain and centred truncation, which say nothing about capacity"],
        [_cost_table(cost, method) for method in ("plain", "centred")],
    )


def _in_doubt(doubt: InDoubt) -> Iterator[Any]:
    yield Heading("What the bottleneck leaves in doubt", "in-doubt")
    if doubt.skipped:
        yield note(Strong("Not measured:"), f" {doubt.skipped}.", css="flag")
    if not doubt.points:
        return
    yield note(
        "A threshold certifies tokens above it. The columns of the head certify some below, by "
        f"vectors of {counted(doubt.num_directions, 'direction')}, at "
        f"{counted(doubt.num_positions, 'position')} of the text. This says which rare tokens the "
        "head leaves in doubt, not how good text is that was cut by it."
    )
    yield by_item(
        "Certified by the basis",
        doubt.points,
        lambda point: number(point.threshold),
        [
            ("% below", "mass_below", percentage),
            ("% tested", "mass_tested", percentage),
            ("% certified", "mass_certified", percentage),
            ("95 % interval", "mass_certified.low", percent_interval),
            ("tokens above", "tokens_above", value),
            ("tokens certified", "tokens_certified", value),
        ],
        "output.in_doubt.points[]",
        first="threshold",
        face=BOTH,
    )


def _cost_table(cost: RankCost, method: str) -> Table | None:
    """One truncation at every rank."""
    return by_item(
        f"Nats lost, {method} truncation",
        [p for p in cost.points if p.method == method],
        lambda p: number(p.rank),
        [
            ("measured", "measured", value),
            ("95 % interval", "measured.low", interval),
            ("predicted", "predicted", number),
            ("= first order", "first_order", number),
            ("+ Fisher", "fisher", number),
        ],
        "output.rank_cost.points[]",
        first="rank r",
    )


def _ranks(rank: LogProbRank) -> Table:
    """Ranks of the matrix of log-probabilities."""
    bound = optional("none")(rank.bound)
    return Table(
        "Rank of the log-probabilities",
        [Column("rank"), Column("bound", "output.rank.bound")],
        [
            (label, f"output.rank.{name}", [number(getattr(rank, name)), bound])
            for label, name in (
                ("above the tolerance", "press"),
                ("99.9 % of energy", "effective_1e3"),
                ("99.99 % of energy", "effective_1e4"),
                ("99.999 % of energy", "effective_1e5"),
            )
        ],
    )


def _numbers(output: OutputAudit) -> Iterator[Number]:
    """Loss, nats lost, ranks, gradient."""
    loss, rank, gradient = output.loss, output.rank, output.gradient
    nats, base = loss.nats_per_token, "output.loss"
    per_byte = loss.bits_per_byte.value / nats.value if nats.value else 0.0
    uniform = round(math.exp(loss.uniform_nats)) if known(loss.uniform_nats) else None

    def beside(function: Callable[[float], float]) -> list[str]:
        pairs = (("uniform", loss.uniform_nats), ("unigram", loss.unigram_nats))
        return [with_name(number(float(function(x))), name) for name, x in pairs]

    perplexities = [with_name(number(uniform), "uniform"), beside(math.exp)[1]]
    bits = beside(lambda x: x * per_byte)
    yield Number.of("nats per token", nats, beside(lambda x: x), f"{base}.nats_per_token")
    yield Number.of("bits per byte", loss.bits_per_byte, bits, f"{base}.bits_per_byte")
    yield Number.of("perplexity", loss.perplexity, perplexities, f"{base}.perplexity")
    for point in half_rank(output):
        points = "output.rank_cost.points[]"
        yield Number.of(
            f"nats lost, r = {point.rank:,}, {point.method}",
            point.measured,
            [with_name(number(point.predicted), "predicted")],
            f"{points}.measured",
            caution=f"{points}.predicted",
        )
    bound = [] if rank.bound is None else [f"{rank.bound:,} max"]
    for label, name in ((" (Press)", "press"), (", 99.9 %", "effective_1e3")):
        found = number(getattr(rank, name))
        yield Number(f"rank of log p{label}", found, bound, f"output.rank.{name}")
    kept, by_chance = (
        gradient.energy_share,
        [with_name(share(gradient.energy_baseline), "at random")],
    )
    yield Number.part("logit gradient kept", kept, by_chance, "output.gradient.energy_share")
    cosine, path = number(output.anisotropy[-1].mean_cosine), "output.anisotropy[].mean_cosine"
    yield Number("mean cosine into the head", cosine, ["about 0 at random"], path)
    yield Number("logit spread", number(output.logits.spread), [], "output.logits.spread")


def half_rank(output: OutputAudit) -> list[RankLoss]:
    """The data-aware truncations at the rank nearest to half: fisher first, then whitened.

    Plain truncation is left out: it says nothing about capacity.
    """
    points = [p for p in output.rank_cost.points if p.method in ("fisher", "whitened")]
    if not points:
        return []
    rank = min((p.rank for p in points), key=lambda r: (abs(r - output.hidden_size / 2), r))
    return sorted((p for p in points if p.rank == rank), key=lambda p: p.method)


SECTION = Section(audit=section, summary=summary, blocks=blocks, headings={"": "Output"})
