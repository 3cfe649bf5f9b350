"""The sections of a comparison's page, which the terminal prints as well."""

from collections.abc import Iterator, Sequence
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.evaluation.comparison.charts import calibration_chart, kinds_charts
from wideneck.evaluation.comparison.results import (
    Difference,
    Example,
    GroupDifference,
    OneModel,
    Source,
)
from wideneck.evaluation.comparison.words import over_models
from wideneck.report.numbers import (
    basis,
    counted,
    estimate,
    number,
    optional,
    percent_interval,
    percentage,
    share,
)
from wideneck.report.parts import (
    BOTH,
    Caution,
    Column,
    Details,
    Heading,
    Measure,
    Pair,
    Panel,
    Piece,
    Prose,
    Table,
    Verbatim,
    by_item,
    by_measure,
    note,
)
from wideneck.report.provenance import LONG, sourced
from wideneck.report.reference import Reference

CONTEXT = 90
"""Characters of a context that are shown."""
WIDE = 2
"""Models that stand beside each other; more stand under each other."""


def _percent(value: Estimate) -> str:
    return f"{percentage(value)} {percent_interval(value)}".rstrip()


MODELS: Sequence[Measure] = (
    ("head", "head", str),
    ("parameters", "num_parameters", number),
    ("loss, nats a token", "loss", optional("", estimate)),
    ("bits a byte", "bits_per_byte", estimate),
    ("most probable token is right", "top1", optional("", _percent)),
    ("median rank of the target", "median_rank", optional("", number)),
    ("calibration error", "calibration", optional("", lambda found: share(found.error))),
    (
        "log-normalizer, mean and sd",
        "log_normalizer",
        optional("", lambda found: f"{number(found.mean)}, {number(found.sd)}"),
    ),
    ("effective rank", "effective_rank", optional("", number)),
    ("contexts of that rank", "rank_contexts", optional("", number)),
)
BESIDE: Sequence[Measure] = (
    ("loss minus that of the first, nats", "loss", optional("", estimate)),
    ("the same, bits a byte", "bits_per_byte", estimate),
    ("KL(first || this), nats", "kl_from_first", optional("", estimate)),
    ("KL(this || first), nats", "kl_to_first", optional("", estimate)),
    ("same most probable token", "agreement", optional("", _percent)),
    ("documents to see the difference", "documents_to_see", optional("", number)),
)
KINDS: Sequence[Measure] = (
    ("difference", "difference", estimate),
    ("tokens", "num_tokens", number),
    ("first", "first", "{:.3f}".format),
    ("this", "other", "{:.3f}".format),
)
NARROW = ("head", "loss", "bits_per_byte")
"""What the terminal has room for of many models."""
SIGN = "Below 0, this model is the better one."
MANY = "One in twenty intervals leaves out the truth by chance, and there are {} here."


def beside(one: Difference, i: int) -> Iterator[Any]:
    """Model i, from 2 on, beside the first.

    Names are strangers' strings, which headings and labels would set as formulas: models go by
    their places, and `models` has the names.
    """
    yield Heading(f"Model {i} beside model 1", f"beside-{i}", f"Model {i}")
    measures = [measure for measure in BESIDE if getattr(one, measure[1]) is not None]
    yield _standing("Difference", [("", "", one)], measures, "differences[]")
    yield note(f"{SIGN} {_sentence(basis(one.loss or one.bits_per_byte))}", face=BOTH)
    if not one.kinds:
        return
    charts = [Panel(chart, "", "differences[].kinds[].difference") for chart in kinds_charts(one)]
    yield Pair(charts) if charts else None
    yield by_item(
        "Loss by kind of token",
        one.kinds,
        lambda kind: f"{kind.sort}: {kind.name}",
        KINDS,
        "differences[].kinds[]",
        at=lambda _: "differences[].kinds[].sort",
        face=BOTH,
    )
    yield note(MANY.format(len(one.kinds)), face=BOTH)
    for title, shown in (
        ("Where this model gains most", one.better),
        ("Where it loses most", one.worse),
    ):
        if shown:
            yield Details([title], [_examples(title, shown)])


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _standing(caption: str, columns: Any, measures: Sequence[Measure], base: str) -> Table:
    """A row for each measure, on the page and in the terminal."""
    table = by_measure(caption, columns, measures, base)
    return Table(table.caption, table.columns, table.rows, captioned=False, face=BOTH)


def _examples(title: str, shown: Sequence[Example]) -> Table:
    at = "differences[].better[]."
    columns = [
        Column("context", f"{at}before", verbatim=True),
        Column("what follows", f"{at}target", verbatim=True),
        Column("first: p", f"{at}first"),
        Column("says", f"{at}first_says", verbatim=True),
        Column("this: p", f"{at}other"),
        Column("says", f"{at}other_says", verbatim=True),
    ]
    rows = [
        (
            str(place),
            "",
            [
                one.before[-CONTEXT:],
                one.target,
                number(one.first),
                one.first_says,
                number(one.other),
                one.other_says,
            ],
        )
        for place, one in enumerate(shown, 1)
    ]
    return Table(title, columns, rows, captioned=False)


def group(one: GroupDifference, i: int, reference: Reference) -> Iterator[Any]:
    """Group i, from 2 on, beside the first."""
    yield Heading(f"Group {i} beside group 1", f"group-{i}", f"Group {i}")
    measures: Sequence[Measure] = (
        ("first", "first", "{:.4f}".format),
        ("this", "other", "{:.4f}".format),
    )
    table = by_item("Mean loss, nats", one.rows, lambda row: row.name, measures, "groups[].rows[]")
    assert table is not None  # all tokens are a row
    columns = [*table.columns, Column("difference", "groups[].rows[].difference")]
    rows = [
        (label, at, [*cells, over_models(row)])
        for (label, at, cells), row in zip(table.rows, one.rows, strict=True)
    ]
    yield Table(table.caption, columns, rows, face=BOTH)
    yield note(SIGN.replace("model", "group"), " ", MANY.format(len(rows)), face=BOTH)
    yield note(Caution(reference["groups[].rows[].low"].caution))


def models(found: Sequence[OneModel]) -> Iterator[Any]:
    """Each model by itself."""
    yield Heading("The models by themselves", "models", "Models")
    numbered = [(f"model {place}", one) for place, one in enumerate(found, 1)]
    for label, one in numbered:
        yield Prose([f"{_sentence(label)[:-1]}: ", Verbatim(one.model)], face=BOTH)
    measures = [m for m in MODELS if any(getattr(one, m[1]) is not None for one in found)]
    if len(found) <= WIDE:
        columns = [(label, "models[].model", one) for label, one in numbered]
        yield _standing("Models", columns, measures, "models[]")
    else:
        wide = [text for text, path, _ in measures if path not in NARROW]
        labels = iter([label for label, _ in numbered])
        yield by_item(
            "Models", found, lambda _: next(labels), measures, "models[]", wide=wide, face=BOTH
        )
    chart = calibration_chart(found)
    if chart is not None:
        yield Pair([Panel(chart, "", "models[].calibration.error")])


def source(found: Source) -> list[Any]:
    """Where the numbers come from."""
    terms: list[tuple[str, list[Piece]]] = [
        (
            "Text",
            [Verbatim(found.text, most=LONG), f", {counted(found.num_documents, 'document')}"],
        ),
        ("Text, SHA-256", [Verbatim(found.text_sha256, code=True)]),
        ("Predictions", [f"{number(found.num_tokens)}, in windows of {found.window}"]),
        ("Seed", [str(found.seed)]),
        ("Computed on", [Verbatim(found.device)]),
    ]
    closing = f"{found.device}, text {found.text_sha256[:12]}, {found.num_tokens:,} tokens"
    return sourced(found, terms, f"{closing}, seed {found.seed}")
