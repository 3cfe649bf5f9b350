"""How a report shows section "output": the output layer on a text."""

from collections.abc import Iterator
from typing import Any

from wideneck.audits.output import OutputAudit
from wideneck.audits.output.own_head import section
from wideneck.report import charts, tables
from wideneck.report.figures import half_rank, output_figures
from wideneck.report.numbers import basis, estimate, known, number
from wideneck.report.parts import (
    Caution,
    Details,
    Figures,
    Heading,
    Link,
    Notes,
    Pair,
    Panel,
    Strong,
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
        f"{number(output.num_documents)} {'document' if output.num_documents == 1 else 'documents'}"
        "; ",
        Link("logit map", "output.logit_map.kind"),
        f" {logits.kind}{scale}{cap}. In brackets: {basis(output.loss.nats_per_token)}.",
        css="facts",
    )
    yield note(Caution(reference["output.window"].caution))
    yield Figures("output", output_figures(output))
    yield Notes(output.notes)
    yield note(
        f"Uniform: {reference['output.loss.uniform_nats'].definition} Unigram: "
        f"{unigram.definition}",
        Caution(unigram.caution),
    )
    yield from _cost(output, reference)
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
            tables.rank_table(output),
            tables.logit_table(output),
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
    fitted = f"{LEGEND} {caution[:1].lower()}{caution[1:]}"
    plain = reference[base].caution
    drawn = (
        (
            charts.cost_chart(output, ("whitened", "fisher"), "Truncations fitted to the data"),
            fitted,
        ),
        (
            charts.cost_chart(output, ("plain", "centred"), "Truncations of the weights alone"),
            plain,
        ),
    )
    yield Pair([Panel(chart, about) for chart, about in drawn if chart is not None])
    yield from (tables.cost_table(cost, method) for method in ("fisher", "whitened"))
    yield Details(
        ["Plain and centred truncation, which say nothing about capacity"],
        [tables.cost_table(cost, method) for method in ("plain", "centred")],
    )


SECTION = Section(audit=section, summary=summary, blocks=blocks, headings={"": "Output"})
