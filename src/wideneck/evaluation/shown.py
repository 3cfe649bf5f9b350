"""How an evaluation is shown: perplexities beside each other, what they depend on, and ranks."""

from collections.abc import Iterator
from typing import Any

from wideneck.audits.output.head_ranks import LogProbRanks
from wideneck.evaluation.perplexity import Perplexity
from wideneck.evaluation.results import Evaluation, Origin
from wideneck.report.charts import log_prob_chart
from wideneck.report.numbers import basis, estimate, number, share
from wideneck.report.parts import (
    BOTH,
    Column,
    Heading,
    Page,
    Pair,
    Panel,
    Piece,
    Prose,
    Table,
    Verbatim,
    lede,
    note,
)
from wideneck.report.provenance import LONG, sourced

HEADINGS = {
    "plain": "Loss",
    "over_documents": "Loss",
    "neural_cache": "Neural cache",
    "dynamic": "Dynamic evaluation",
    "ranks": "Ranks",
    "source": "Provenance",
}


def page(found: Evaluation) -> Page:
    """The losses, how they were measured, and the ranks."""
    source = found.source
    part = "" if source.split is None else f", {source.split} split"
    read = f"{source.head} head, {source.num_parameters:,} parameters; text: "
    return Page(
        kicker="wideneck evaluate",
        title=source.model,
        opening=[lede(read, Verbatim(source.text), part)],
        sections=[
            [Heading("Loss", "loss", "Loss"), _losses(found), *_conventions(found)],
            [] if found.ranks is None else list(_ranks(found.ranks)),
        ],
        source=_source(source),
        headings=HEADINGS,
    )


def _losses(found: Evaluation) -> Table:
    rows = [_loss("the model", "plain", found.plain)]
    if found.neural_cache is not None:
        rows.append(_loss("with a neural cache", "neural_cache", found.neural_cache.perplexity))
    if found.dynamic is not None:
        rows.append(_loss("with dynamic evaluation", "dynamic", found.dynamic.perplexity))
    columns = [
        Column("perplexity", "plain.perplexity"),
        Column("nats/token", "plain.loss"),
        Column("bits/byte", "plain.bits_per_byte"),
    ]
    return Table("Losses", columns, rows, captioned=False, face=BOTH)


def _loss(label: str, path: str, found: Perplexity) -> tuple[str, str, list[str]]:
    per_byte = "" if found.bits_per_byte is None else f"{found.bits_per_byte:.4f}"
    return label, path, [f"{found.perplexity:,.2f}", f"{found.loss:.4f}", per_byte]


def _conventions(found: Evaluation) -> Iterator[Prose]:
    yield note(f"{found.plain.num_tokens:,} predictions: {found.plain.conventions}.", face=BOTH)
    if found.over_documents is not None:
        over = found.over_documents
        yield note(
            f"Perplexity {estimate(over.perplexity)}, nats {estimate(over.loss)}, bits a byte "
            f"{estimate(over.bits_per_byte)}; {basis(over.loss)}.",
            face=BOTH,
        )
    if found.neural_cache is not None:
        cache = found.neural_cache
        yield note(
            f"Neural cache: the last {cache.size:,} positions; theta {cache.theta:g} and weight "
            f"{cache.weight:g} fitted on the validation split, {cache.valid_loss_without:.4f} to "
            f"{cache.valid_loss:.4f} nats there.",
            face=BOTH,
        )
    if found.dynamic is not None:
        dynamic = found.dynamic
        yield note(
            f"Dynamic evaluation: RMS with decay, {dynamic.scaling} scaling, learning rate "
            f"{dynamic.learning_rate:g}, decay {dynamic.decay:g}, epsilon {dynamic.epsilon:g}, "
            f"statistics from {dynamic.num_batches:,} batches of the training split; 1 row, "
            f"{dynamic.perplexity.num_tokens:,} predictions.",
            face=BOTH,
        )


def _ranks(found: LogProbRanks) -> Iterator[Any]:
    relative = found.press_tolerance / found.singular_values[0]
    both = f"both: s > {relative:.2e} s_0"
    rows = [
        ("Press tolerance, epsilon of float32", "press", f"at most {found.bound:,}"),
        ("the same, rows centred", "press_centred", both),
        ("effective, 1 - 1e-3 of s^2", "effective_1e3", ""),
        ("effective, 1 - 1e-4", "effective_1e4", ""),
        ("effective, 1 - 1e-5", "effective_1e5", ""),
        ("scores z before the activation", "mean_logit", f"sd {number(found.sd_logit)}"),
    ]
    cells = [
        (label, f"ranks.{name}", [number(getattr(found, name)), beside])
        for label, name, beside in rows
    ]
    bent = [share(found.share_curved), "where a sigsoftmax bends"]
    cells.append(("share of them with |z| < 5", "ranks.share_curved", bent))
    caption = f"rank of {found.num_contexts:,} x {found.vocab_size:,} log-probabilities"
    chart = log_prob_chart(found.singular_values, found.press_tolerance, found.bound)
    yield Heading("Ranks", "ranks", "Ranks")
    yield Table(caption, [Column(""), Column("beside", words=True)], cells, face=BOTH)
    yield Pair(
        [
            Panel(
                chart,
                "In falling order; the bound of this head is drawn where N does not hide it.",
                "ranks.press",
            )
        ]
    )


def _source(source: Origin) -> list[Any]:
    documents = "document" if source.num_documents == 1 else "documents"
    terms: list[tuple[str, list[Piece]]] = [
        ("Model", [Verbatim(source.model, most=LONG)]),
        ("Head", [f"{source.head}, {source.num_parameters:,} parameters"]),
        ("Text", [Verbatim(source.text, most=LONG), f", {source.num_documents:,} {documents}"]),
        ("Text, SHA-256", [Verbatim(source.text_sha256, code=True)]),
        ("Ran on", [f"{source.device}, in {source.dtype}"]),
    ]
    closing = f"{source.device}, {source.dtype}, text {source.text_sha256[:12]}"
    return sourced(source, terms, closing)
