"""How a report shows section "memory": what the context of a text holds of the next token."""

from collections.abc import Iterator
from typing import Any

from wideneck.audits.memory import LayerRanks
from wideneck.audits.memory.results import MemoryAudit
from wideneck.audits.memory.section import section
from wideneck.report import memory_numbers as shown
from wideneck.report.numbers import (
    basis,
    counted,
    estimate,
    known,
    number,
    percentage,
    share,
    value,
)
from wideneck.report.parts import (
    Caution,
    Details,
    Heading,
    Link,
    Notes,
    Numbers,
    Pair,
    Panel,
    Strong,
    line,
    note,
)
from wideneck.report.reference import Reference
from wideneck.report.section import Section

CHART = (
    "Among the distinct tokens of the memory, each by its best position. Token identity: what "
    "followed the current token before comes first."
)


def summary(audit: MemoryAudit) -> list[str]:
    """What recurs, how high it ranks, and what a cache would gain."""
    recurrence = audit.recurrence
    elsewhere = ""
    if recurrence.elsewhere is not None:
        elsewhere = (
            f"; of tokens at the same places of other text, {share(recurrence.elsewhere.value)}"
        )
    found = [
        f"Of {audit.num_tokens:,} next tokens, {percentage(recurrence.share)} stand in the "
        f"context already, a window of {audit.window:,}{elsewhere}."
    ]
    if (
        audit.baselines is not None
        and audit.layers
        and known(audit.layers[-1].dot.reciprocal_rank.value)
    ):
        last, beside = audit.layers[-1], audit.baselines
        found.append(
            "Where they do, their mean reciprocal rank among the tokens of the context is "
            f"{estimate(last.dot.reciprocal_rank)} by the similarity of the states that enter the "
            f"head, {value(beside.token_identity.reciprocal_rank)} if what followed the current "
            f"token before comes first, and {value(beside.recency.reciprocal_rank)} by recency."
        )
    gains = {
        (c.mixture, c.scores): estimate(c.gain)
        for c in audit.gain.caches
        if c.mixture in ("joint", "linear")
    }
    if gains and all(known(c.gain.value) for c in audit.gain.caches):
        found.append(
            f"The gain of a cache of these states is {gains['joint', 'similarity']} nats a token "
            f"under one normalizer and {gains['linear', 'similarity']} mixed linearly, fitted on "
            "one half of the text and measured on the other, without training; of one that counts "
            f"tokens, {gains['joint', 'counts']} and {gains['linear', 'counts']}."
        )
    return found


def blocks(audit: MemoryAudit, reference: Reference) -> Iterator[Any]:
    """Recurrence and ranks, then caches."""
    within = basis(audit.recurrence.share)
    yield Heading("Memory", "memory", "Memory")
    yield note(
        f"{number(audit.num_tokens)} predictions in windows of {number(audit.window)}, from "
        f"{counted(audit.num_documents, 'document')}. In brackets: {within}.",
        css="facts",
    )
    yield note(
        "What the window holds of the next token, and what hidden states find of it: memory j is "
        "the state at position j with the token that followed, and a prediction sees what lies "
        "before it. The model was not trained for it. ",
        *_ranked(audit),
    )
    yield Numbers("memory", [*shown.memory_numbers(audit)])
    yield line(f"In brackets: {within}.")
    yield Notes(audit.notes)
    ranks, dot = shown.rank_chart(audit), "memory.layers[].dot"
    yield Pair(
        [
            None if ranks is None else Panel(ranks, CHART, dot),
            [
                shown.distance_table(audit),
                note(
                    "Shares of all predictions; the rest did not stand in the window.",
                    Caution(reference["memory.recurrence.share"].caution),
                ),
            ],
        ]
    )
    yield shown.baseline_table(audit)
    if audit.layers:
        yield Details(["The numbers of these curves"], [shown.layer_table(audit)])
    yield from _caches(audit, reference)


def _ranked(audit: MemoryAudit) -> Iterator[str | Link]:
    if not audit.num_ranked:
        yield "No prediction's token is in its memory, so none is ranked."
        return
    yield f"Ranked are the {number(audit.num_ranked)} predictions whose token is among the "
    yield Link(f"{number(audit.distinct)} distinct ones", "memory.distinct")
    yield " of the memory."


def _caches(audit: MemoryAudit, reference: Reference) -> Iterator[Any]:
    gain, base = audit.gain, "memory.gain.caches"
    yield Heading("What a cache would gain", "caches", "Caches")
    if gain.skipped or gain.loss is None:
        yield note(Strong("Not measured:"), f" {gain.skipped}.", css="flag")
        yield line(f"No cache was measured: {gain.skipped}.")
        return
    yield note(
        "The window's tokens get probability by their scores, beside the model's own: fitted on "
        f"{number(gain.num_fit_tokens)} predictions, measured on {number(gain.num_test_tokens)} "
        f"others, where the model alone loses {estimate(gain.loss)} nats a token. The states' "
        "similarities ",
        Link("spread", "memory.gain.spread"),
        f" by {number(gain.spread)}. Counts and same token are caches without hidden states.",
    )
    yield shown.cache_table(audit)
    yield line("Nats per token, fitted on one half of the text, measured on the other.")
    yield Details(["The fitted numbers"], [shown.fitted_table(audit)])
    yield note(reference[f"{base}[].mixture"].definition)
    yield note(Caution(f"{reference[f'{base}[].gain'].caution} {reference[base].caution}"))


SECTION = Section(
    audit=section,
    watch=LayerRanks,
    summary=summary,
    blocks=blocks,
    headings={"": "Memory"},
    symbols="Of memory: h_i is the state at position i, v_j the token that followed position j, y "
    "the next token, s_j the score of memory j, z the model's logits.",
)
