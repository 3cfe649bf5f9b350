"""How a report shows section "attention": the heads on a text."""

from collections.abc import Iterator
from statistics import median
from typing import Any

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.subject import Subject
from wideneck.report import attention_charts as charts
from wideneck.report import attention_numbers as shown
from wideneck.report.attention_maps import heat_maps
from wideneck.report.heatmap import NAMED
from wideneck.report.numbers import basis, counted, estimate, known, number, share
from wideneck.report.parts import (
    Caution,
    Details,
    Heading,
    Link,
    Notes,
    Numbers,
    Pair,
    Verbatim,
    line,
    note,
)
from wideneck.report.reference import Reference
from wideneck.report.section import Section

ABOUT = (
    "What the weights do on this text, and the geometry of what they select: it describes the "
    "heads and diagnoses none. Whether a head matters to the loss is a question for ablation. "
    "“Median” is over heads, “a to b” holds half of them, in brackets: {}. “Uniform” is equal "
    "weight on every visible key."
)
SELECTION = (
    "The questions of Mudarisov et al. 2025 (arXiv 2508.17821), asked of this model: how far the "
    "sum of the N heaviest keys lies from the rest, and how many of the N stand apart."
)
LUCKIEST = (
    " The largest of many estimates is partly the luckiest: measured again on other text, the top "
    "of this list will tend to cost less."
)


def summary(audit: AttentionAudit) -> list[str]:
    """How far the median head spreads its weight, and what a head is worth."""
    heads = audit.heads
    windows = counted(audit.num_windows, "window")
    if not heads:
        return [f"No attention head was measured on {windows} of {audit.context:,} tokens."]
    keys = [h.effective_keys for h in heads if known(h.effective_keys)]
    first = [h.first_key for h in heads if known(h.first_key)]
    if not keys or not first:
        return [f"On {windows} of {audit.context:,} tokens no head's weights are measurable."]
    found = [
        f"{counted(len(heads), 'attention head')} ({audit.normalizer}) on {windows} of "
        f"{audit.context:,} tokens: the median head spreads its weight over "
        f"{number(median(keys))} effective keys, where a query sees "
        f"{number((audit.context + 1) / 2)} on average, and gives "
        f"{share(median(first))} of it to the first key.",
    ]
    strongest = shown.by_ablation(audit)
    if strongest:
        top = strongest[0]
        assert top.ablation is not None
        losses = [h.ablation.value for h in strongest if h.ablation is not None]
        found.append(
            "With a head's output replaced by the plain mean of its values the loss changes by "
            f"{number(float(median(losses)))} nats a token for the median head and by at most "
            f"{estimate(top.ablation)} (layer {top.layer}, head {top.head}), one head at a time."
        )
    return found


def blocks(audit: AttentionAudit, reference: Reference) -> Iterator[Any]:
    """The heads on the whole, one by one, by what they select, and under other normalizers."""
    yield Heading("Attention", "attention", "Attention")
    layers, heads = counted(audit.num_layers, "layer"), counted(audit.num_heads, "head")
    by = [", computed by ", Link("route", "attention.route"), " ", Verbatim(audit.route or "")]
    yield note(
        Verbatim(audit.normalizer),
        *(by if audit.route else ()),
        f"; {layers} with {heads} of width {number(audit.head_dim)}; "
        f"{counted(audit.num_windows, 'window')} of {number(audit.context)} tokens, ",
        Link("geometry", "attention.num_queries"),
        f" at {number(audit.num_queries)} queries of each; ",
        Link("vectors", "attention.vectors"),
        f": {audit.vectors}; ",
        Link("N", "attention.reference_size"),
        f" = {number(audit.reference_size)} keys count as selected; ",
        Link("T", "attention.temperature"),
        f" = {number(audit.temperature)}; ",
        Link("smallest gap", "attention.smallest_gap"),
        f" {number(audit.smallest_gap)}.",
        css="facts",
    )
    if audit.choices:
        choices = Verbatim(", ".join(audit.choices), most=2000)
        yield note(
            Link("Chosen otherwise than by default", "attention.choices"), ": ", choices, "."
        )
    within = basis(audit.loss)
    yield note(ABOUT.format(within))
    yield Numbers("attention", [*shown.attention_numbers(audit)])
    yield line(
        "Median: over heads; a to b: between which half of the heads lie; in brackets: "
        + within
        + "."
    )
    yield Notes(audit.notes)
    yield from _one_by_one(audit, reference)
    yield from _selected(audit)
    others = shown.comparison_table(audit)
    if others:
        yield Heading("Other normalizers", "normalizers")
        yield others


def _one_by_one(audit: AttentionAudit, reference: Reference) -> Iterator[Any]:
    maps = heat_maps(audit)
    if maps:
        few = len(audit.heads) <= NAMED
        where = "Point at a cell for its value." if few else "All values are in the JSON file."
        yield Heading("Head by head", "heads", "Heads")
        yield note(f"One cell per head, layers from left to right. {where}")
        yield Pair(maps)
    strongest, links = shown.strongest_table(audit), shown.link_table(audit)
    if strongest is None:
        yield note("No head was replaced to see what it costs.")
        return
    ablation = reference["attention.heads[].ablation"]
    yield Heading("Ablation, head by head", level=3)
    yield note(
        f"{ablation.definition} On {number(audit.ablation_tokens)} predictions.",
        Caution(ablation.caution),
        LUCKIEST,
    )
    yield strongest
    if links:
        yield links
        yield note(Caution(reference["attention.links[].spearman"].caution))


def _selected(audit: AttentionAudit) -> Iterator[Any]:
    if audit.by_length or audit.by_size:
        yield Heading("Selected and other keys", "selection")
        yield note(SELECTION)
        yield Pair([*charts.length_charts(audit), *charts.size_charts(audit)])
        yield Details(["The numbers of these curves"], shown.curve_tables(audit))
    single = [charts.step_chart(audit), charts.critical_chart(audit)]
    if any(single):
        yield Pair(single)
    yield shown.critical_table(audit)


def _audit(subject: Subject) -> AttentionAudit | None:
    # transformers, which takes seconds to import, is not needed for a head alone.
    from wideneck.audits.attention.of_subject import section

    return section(subject)


SECTION = Section(
    audit=_audit,
    states=False,
    while_loaded=True,
    summary=summary,
    blocks=blocks,
    headings={"": "Attention"},
    symbols="Of attention: p_i is the weight of key i, x_i its vector, l the scores after scaling, "
    "T the temperature, n the number of keys that a query sees, N that of those counted as "
    "selected, s the sum of p_i x_i over these.",
)
