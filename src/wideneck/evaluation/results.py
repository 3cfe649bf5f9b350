"""What `wideneck evaluate` finds: every number with its definition, and how it is shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.audits.measure import measure
from wideneck.audits.output.head_ranks import LogProbRanks
from wideneck.evaluation.perplexity import Perplexity
from wideneck.report.charts import log_prob_chart
from wideneck.report.document import Document
from wideneck.report.numbers import basis, counted, estimate, number, optional, share
from wideneck.report.parts import (
    BOTH,
    Column,
    Heading,
    Measure,
    Page,
    Pair,
    Panel,
    Piece,
    Table,
    Verbatim,
    cells,
    lede,
    note,
)
from wideneck.report.provenance import LONG, computed_on, sourced
from wideneck.report.reference import Reference

LOSS: Sequence[Measure] = (
    ("perplexity", "perplexity", "{:,.2f}".format),
    ("nats/token", "loss", "{:.4f}".format),
    ("bits/byte", "bits_per_byte", optional("", "{:.4f}".format)),
)
HEADINGS = {
    "plain": "Loss",
    "over_documents": "Loss",
    "neural_cache": "Neural cache",
    "dynamic": "Dynamic evaluation",
    "ranks": "Ranks",
    "source": "Provenance",
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Model, text, software and command."""

    model: str = measure("what was evaluated, as it was named")
    kind: str = measure('"run", a folder of `wideneck train`, or "model", one of Hugging Face')
    head: str = measure('name of its head (`wideneck heads`), or "own": the model\'s output layer')
    num_parameters: int = measure("numbers that the model learned, a tied matrix counted once")
    text: str = measure("the text")
    split: str | None = measure("its split; none where the whole text was read")
    text_sha256: str = measure("hash of the documents of that split")
    num_documents: int = measure("documents that the text is cut into")
    device: str = measure("where the model ran")
    device_map: dict[str, str] | None = measure(
        "where the modules of the model were, if not all in one place", default=None
    )
    dtype: str = measure("type of its weights; losses are at least float32, ranks float64")
    versions: dict[str, str] = measure("software")
    command: str = measure("what was run")
    time: str = measure("when, UTC")
    seconds: dict[str, float] = measure("wall-clock time of each step", unit="seconds")
    notes: list[str] = measure("what a reader of the numbers should know")


@dataclass(frozen=True, kw_only=True)
class OverDocuments:
    """How far another text of the same kind might move the numbers."""

    loss: Estimate = measure("as `plain.loss`")
    perplexity: Estimate = measure("exp(loss)")
    bits_per_byte: Estimate = measure("as `plain.bits_per_byte`; the interval is that of the loss")


@dataclass(frozen=True, kw_only=True)
class WithCache:
    """The model beside a neural cache (Grave et al. 2017)."""

    size: int = measure("pairs of a hidden state and its next token that it holds")
    theta: float = measure("factor of the dot products, the best of a grid; 0 counts")
    weight: float = measure("the cache's share, the best of a grid; 0 leaves it out")
    valid_loss: float = measure("on the validation split, which chose the two", unit="nats")
    valid_loss_without: float = measure("on the validation split, the model alone", unit="nats")
    perplexity: Perplexity = measure("on the text")


@dataclass(frozen=True, kw_only=True)
class WithLearning:
    """The model going on to learn from the text, by dynamic evaluation (Krause et al. 2018)."""

    learning_rate: float = measure("eta")
    decay: float = measure("lambda, towards the trained weights")
    epsilon: float = measure("added to the root mean square of the gradients")
    segment: int = measure("tokens between two updates; a model of windows takes its window")
    scaling: str = measure(
        'scaling of the gradients\' statistics: "new", as the paper has it, or "old", as its '
        "numbers were made"
    )
    num_batches: int = measure("batches of the training split that the statistics are from")
    perplexity: Perplexity = measure("on the text")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Document):
    """A model on a text.  What was not asked for is None."""

    source: Origin = measure("where the numbers come from")
    plain: Perplexity = measure("the model as it is")
    over_documents: OverDocuments | None = measure(
        "95 % intervals, where the model reads document by document; none for a run, whose state "
        "goes over from one to the next"
    )
    neural_cache: WithCache | None = measure("with a neural cache")
    dynamic: WithLearning | None = measure("with dynamic evaluation")
    ranks: LogProbRanks | None = measure(
        "ranks of the matrix of log-probabilities, at places at equal distances over the text"
    )

    def page(self, reference: Reference) -> Page:
        """The losses, how they were measured, and the ranks."""
        source = self.source
        part = "" if source.split is None else f", {source.split} split"
        read = f"{source.head} head, {source.num_parameters:,} parameters; text: "
        return Page(
            kicker="wideneck evaluate",
            title=source.model,
            opening=[lede(read, Verbatim(source.text), part)],
            sections=[
                [
                    Heading("Loss", "loss", "Loss"),
                    _losses(self),
                    *(note(said, face=BOTH) for said in _conventions(self)),
                ],
                [] if self.ranks is None else list(_ranks(self.ranks)),
            ],
            source=_source(source),
            headings=HEADINGS,
        )


def _losses(found: Evaluation) -> Table:
    cache, dynamic = found.neural_cache, found.dynamic
    read = (
        ("the model", "plain", found.plain),
        ("with a neural cache", "neural_cache", cache and cache.perplexity),
        ("with dynamic evaluation", "dynamic", dynamic and dynamic.perplexity),
    )
    rows = [(label, path, cells(one, LOSS)) for label, path, one in read if one is not None]
    columns = [Column(text, f"plain.{path}") for text, path, _ in LOSS]
    return Table("Losses", columns, rows, captioned=False, face=BOTH)


def _conventions(found: Evaluation) -> Iterator[str]:
    yield f"{found.plain.num_tokens:,} predictions: {found.plain.conventions}."
    if found.over_documents is not None:
        over = found.over_documents
        yield (
            f"Perplexity {estimate(over.perplexity)}, nats {estimate(over.loss)}, bits per byte "
            f"{estimate(over.bits_per_byte)}; {basis(over.loss)}."
        )
    if found.neural_cache is not None:
        cache = found.neural_cache
        yield (
            f"Neural cache: the last {cache.size:,} positions; theta {cache.theta:g} and weight "
            f"{cache.weight:g} fitted on the validation split, {cache.valid_loss_without:.4f} to "
            f"{cache.valid_loss:.4f} nats there."
        )
    if found.dynamic is not None:
        dynamic = found.dynamic
        yield (
            f"Dynamic evaluation: RMS with decay, {dynamic.scaling} scaling, learning rate "
            f"{dynamic.learning_rate:g}, decay {dynamic.decay:g}, epsilon {dynamic.epsilon:g}, "
            f"statistics from {dynamic.num_batches:,} batches of the training split; 1 row, "
            f"{dynamic.perplexity.num_tokens:,} predictions."
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
    shown = [
        (label, f"ranks.{name}", [number(getattr(found, name)), beside])
        for label, name, beside in rows
    ]
    bent = [share(found.share_curved), "where a sigsoftmax bends"]
    shown.append(("share of them with |z| < 5", "ranks.share_curved", bent))
    caption = f"rank of {found.num_contexts:,} x {found.vocab_size:,} log-probabilities"
    chart = log_prob_chart(found.singular_values, found.press_tolerance, found.bound)
    yield Heading("Ranks", "ranks", "Ranks")
    yield Table(caption, [Column(""), Column("beside", words=True)], shown, face=BOTH)
    about = "In falling order; the bound of this head is drawn where N does not hide it."
    yield Pair([Panel(chart, about, "ranks.press")])


def _source(source: Origin) -> list[Any]:
    documents = counted(source.num_documents, "document")
    terms: list[tuple[str, list[Piece]]] = [
        ("Model", [Verbatim(source.model, most=LONG)]),
        ("Head", [f"{source.head}, {source.num_parameters:,} parameters"]),
        ("Text", [Verbatim(source.text, most=LONG), f", {documents}"]),
        ("Text, SHA-256", [Verbatim(source.text_sha256, code=True)]),
        ("Ran on", [f"{computed_on(source)}, in {source.dtype}"]),
    ]
    closing = f"{source.device}, {source.dtype}, text {source.text_sha256[:12]}"
    return sourced(source, terms, closing)
