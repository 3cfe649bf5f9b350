"""A comparison as a document: its numbers, and the page that shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.audits.measure import measure
from wideneck.evaluation.comparison.charts import calibration_chart, kinds_charts
from wideneck.evaluation.comparison.results import (
    Difference,
    Example,
    GroupDifference,
    OneModel,
    OverSeeds,
    Source,
)
from wideneck.report.document import Document
from wideneck.report.numbers import (
    basis,
    counted,
    estimate,
    number,
    optional,
    percentage,
    share,
    visible,
)
from wideneck.report.parts import (
    BOTH,
    Caution,
    Column,
    Details,
    Heading,
    Measure,
    Page,
    Pair,
    Panel,
    Piece,
    Table,
    Verbatim,
    by_item,
    cells,
    lede,
    note,
)
from wideneck.report.provenance import LONG, sourced
from wideneck.report.reference import Reference

MODELS: Sequence[Measure] = (
    ("head", "head", str),
    ("nats/token", "loss", optional("", estimate)),
    ("bits/byte", "bits_per_byte", estimate),
    ("top-1", "top1", optional("", percentage)),
)
MORE: Sequence[Measure] = (
    ("parameters", "num_parameters", number),
    ("median rank", "median_rank", optional("", number)),
    ("calibration error", "calibration", optional("", lambda c: share(c.error))),
    ("log-normalizer", "log_normalizer", optional("", lambda z: f"{number(z.mean)}, sd {z.sd:.2f}")),
    ("effective rank", "effective_rank", optional("", number)),
)
KINDS: Sequence[Measure] = (
    ("tokens", "num_tokens", number),
    ("first", "first", "{:.3f}".format),
    ("this", "other", "{:.3f}".format),
    ("difference", "difference", estimate),
)
HEADINGS = {
    "models": "Models",
    "differences": "Differences",
    "groups": "Groups",
    "source": "Provenance",
}


@dataclass(frozen=True, kw_only=True)
class Comparison(Document):
    """Models on one text."""

    source: Source = measure("where the numbers come from")
    models: list[OneModel] = measure("each by itself, in the order in which they were named")
    differences: list[Difference] = measure("each model but the first beside the first")
    groups: list[GroupDifference] = measure(
        "each group but the first beside the first; empty where models are compared"
    )

    def page(self, reference: Reference) -> Page:
        """The differences in words, then each by kind of token, then the models by themselves."""
        return Page(
            kicker="wideneck compare",
            title=" and ".join(dict.fromkeys(model.model for model in self.models[:2]))
            if not self.groups
            else f"{len(self.groups) + 1} groups of models",
            opening=[lede(*said) for said in _opening(self)],
            sections=[
                *([*_difference(one, self, reference)] for one in self.differences),
                *([*_group(one, reference)] for one in self.groups),
                list(_models(self)),
            ],
            source=_source(self.source),
            headings=HEADINGS,
        )


def _opening(found: Comparison) -> Iterator[list[Piece]]:
    first = found.models[0].model
    for one in found.differences:
        value = one.loss if one.loss is not None else one.bits_per_byte
        unit = "nats a token" if one.loss is not None else "bits a byte"
        yield [
            Verbatim(one.model),
            f" {_better(value)} ",
            Verbatim(first),
            f": its loss is {estimate(value)} {unit} from that of the first, {basis(value)}."
            if value.value
            else f": every loss is the same, {basis(value)}.",
            _more(value, one.documents_to_see),
        ]
    for group in found.groups:
        row = group.rows[0]
        yield [
            Verbatim(group.group),
            f": the mean loss of its {counted(group.num_models, 'model')} is {_interval(row)} nats "
            "a token from that of the first group, over models.",
            _seeds(row),
        ]


def _better(value: Estimate) -> str:
    """What the interval lets one say."""
    if value.value == 0:
        return "predicts as"
    if value.low is None or value.high is None:
        return "beside"
    if value.high < 0:
        return "predicts this text better than"
    return "predicts this text worse than" if value.low > 0 else "is not told apart from"


def _more(value: Estimate, needed: int | None) -> str:
    if needed is None or value.low is None or value.high is None:
        return ""
    if value.low > 0 or value.high < 0:
        return ""
    return f" Some {needed:,} {value.over} would show a difference of this size."


def _interval(row: OverSeeds) -> str:
    if row.low is None or row.high is None:
        return f"{row.difference:+.4f}"
    return f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"


def _seeds(row: OverSeeds) -> str:
    if row.low is None or row.high is None:
        return " One model in a group says nothing of the others: there is no interval."
    if row.models_to_see is None or row.low > 0 or row.high < 0:
        return ""
    return f" Some {row.models_to_see:,} models in each would show a difference of this size."


def _difference(one: Difference, found: Comparison, reference: Reference) -> Iterator[Any]:
    anchor = f"difference-{found.differences.index(one)}"
    yield Heading(f"{visible(one.model)} beside {visible(found.models[0].model)}", anchor, one.model)
    if one.loss is None:
        yield note(reference["differences[].bits_per_byte"].definition, face=BOTH)
        return
    rows: list[tuple[str, str, list[str]]] = [
        ("difference of loss, nats", "differences[].loss", [estimate(one.loss)]),
        ("the same, bits/byte", "differences[].bits_per_byte", [estimate(one.bits_per_byte)]),
    ]
    for label, path, value, write in (
        ("KL(first || this), nats", "kl_from_first", one.kl_from_first, estimate),
        ("KL(this || first), nats", "kl_to_first", one.kl_to_first, estimate),
        ("same most probable token", "agreement", one.agreement, _percent),
    ):
        if value is not None:
            rows.append((label, f"differences[].{path}", [write(value)]))
    yield Table(
        "This model beside the first", [Column("")], rows, captioned=False, face=BOTH
    )
    yield note(f"{basis(one.loss)}. Below 0, this model is the better one.", face=BOTH)
    yield Pair(
        [Panel(chart, "", "differences[].kinds[].difference") for chart in kinds_charts(one)]
    )
    yield by_item(
        "Difference by kind of token",
        one.kinds,
        lambda kind: f"{kind.sort}: {kind.name}",
        KINDS,
        "differences[].kinds[]",
        face=BOTH,
    )
    for title, shown in (
        ("Where this model gains most", one.better),
        ("Where it loses most", one.worse),
    ):
        if shown:
            yield Details([title], [_examples(title, shown)])


def _percent(value: Estimate) -> str:
    return f"{percentage(value)} {estimate(value.map(lambda x: 100 * x)).partition(' ')[2]}".rstrip()


def _examples(title: str, shown: Sequence[Example]) -> Table:
    columns = [
        Column("what follows", "differences[].better[].target", words=True, verbatim=True),
        Column("p, first", "differences[].better[].first"),
        Column("p, this", "differences[].better[].other"),
        Column("first says", "differences[].better[].first_says", words=True, verbatim=True),
        Column("this says", "differences[].better[].other_says", words=True, verbatim=True),
    ]
    rows = [
        (
            visible(one.before[-60:]),
            "",
            [
                visible(one.target),
                number(one.first),
                number(one.other),
                visible(one.first_says),
                visible(one.other_says),
            ],
        )
        for one in shown
    ]
    return Table(title, columns, rows, first="context", captioned=False)


def _group(one: GroupDifference, reference: Reference) -> Iterator[Any]:
    yield Heading(f"{visible(one.group)} beside the first group", visible(one.group), one.group)
    columns = [
        Column("first", "groups[].rows[].first"),
        Column("this", "groups[].rows[].other"),
        Column("difference", "groups[].rows[].difference"),
    ]
    rows = [
        (row.name, "", [f"{row.first:.4f}", f"{row.other:.4f}", _interval(row)]) for row in one.rows
    ]
    yield Table("Mean loss over models, nats", columns, rows, captioned=False, face=BOTH)
    yield note(Caution(reference["groups[].rows[].low"].caution))


def _models(found: Comparison) -> Iterator[Any]:
    yield Heading("The models by themselves", "models", "Models")
    yield by_item("Models", found.models, _name, MODELS, "models[]", captioned=False, face=BOTH)
    measured = [measure for measure in MORE if any(cells(one, [measure])[0] for one in found.models)]
    yield by_item(
        "Models, further", found.models, _name, measured, "models[]", captioned=False, face=BOTH
    )
    chart = calibration_chart(found.models)
    if chart is not None:
        yield Pair([Panel(chart, "", "models[].calibration.bins")])


def _name(model: OneModel) -> str:
    return visible(model.model)


def _source(source: Source) -> list[Any]:
    terms: list[tuple[str, list[Piece]]] = [
        ("Text", [Verbatim(source.text, most=LONG), f", {counted(source.num_documents, 'document')}"]),
        ("Text, SHA-256", [Verbatim(source.text_sha256, code=True)]),
    ]
    if source.num_tokens is not None:
        terms.append(
            ("Predictions", [f"{number(source.num_tokens)} tokens, windows of {source.window}"])
        )
    terms.append(("Seed", [str(source.seed)]))
    closing = f"text {source.text}, seed {source.seed}"
    return sourced(source, terms, closing)
