"""How a report shows section "cost": what a cheaper output layer costs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wideneck.audits.cost.results import CostAudit, Kind
from wideneck.audits.cost.section import section
from wideneck.audits.estimate import Estimate
from wideneck.report.axes import logarithmic
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
    Link,
    Measure,
    Notes,
    Pair,
    Panel,
    Table,
    by_item,
    line,
    note,
)
from wideneck.report.reference import Reference
from wideneck.report.section import Section
from wideneck.report.svg import Chart, Line

KINDS = "cost.kinds[]"
TITLES = {
    "format": "Rounded to nearest",
    "better": "The same formats, fitted to the hidden states of the other half",
    "shifted": "One vector taken off every row before rounding (untied heads alone)",
    "low rank": "Low rank",
    "logits": "Rounded states and logits",
}
LOWEST = 1e-3
"""Nats of divergence below which a point is drawn at the foot."""
DRAWN = (
    ("format", "c-centred", "dot", False),
    ("better", "c-data", "ring", False),
)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def _divergence(found: Estimate) -> str:
    return _nats(found.value)


def _nats(value: float) -> str:
    """One way of writing for what is measured and what was predicted of it."""
    if not value:
        return "0"
    return f"{value:.2e}" if value < 0.001 else f"{value:.4f}"


def _between(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return ""
    if not found.value:
        return "[0, 0]"
    write: Callable[[float], str] = "{:.1e}".format if found.value < 0.001 else "{:.4f}".format
    return f"[{write(found.low)}, {write(found.high)}]"


MEASURES: Sequence[Measure] = (
    ("MB", "num_bytes", _megabytes),
    ("of bf16", "share", share),
    ("KL, nats", "kl", _divergence),
    ("95 % interval", "kl.low", _between),
    ("nats lost", "nats", estimate),
    ("top-1", "top1", percentage),
)
WIDE = ("95 % interval", "nats lost", "of bf16")
TAILS: Sequence[Measure] = (
    ("median", "changes.half", number),
    ("90 %", "changes.ninety", number),
    ("99 %", "changes.ninety_nine", number),
    ("99.9 %", "changes.thousandth", number),
    ("largest", "changes.largest", number),
    ("RMS of p", "rms_probability", number),
    ("accepted", "acceptance", percentage),
)
PREDICTED: Sequence[Measure] = (
    ("measured", "kl", _divergence),
    ("true change", "predicted.change", _nats),
    ("noise", "predicted.noise", optional("", _nats)),
    ("moments", "predicted.moments", optional("", _nats)),
)
TRIMS: Sequence[Measure] = (
    ("MB", "num_bytes", _megabytes),
    ("missing", "missing", percentage),
    ("targets gone", "missing_targets", percentage),
    ("top-1 stays", "top1", percentage),
)


def summary(audit: CostAudit) -> list[str]:
    """Eight and four bits, and what a limit chooses."""
    found = []
    named = {kind.name: kind for kind in audit.kinds}
    for name in ("int8 row", "Q4_0"):
        if name in named:
            kind = named[name]
            found.append(
                f"The head in {name} is {share(kind.share)} of its bytes in bfloat16 and changes "
                f"predictions by {_divergence(kind.kl)} nats a token."
            )
    choice = audit.choice
    if choice is not None:
        found.append(_choice(audit))
    return found


def _choice(audit: CostAudit) -> str:
    choice = audit.choice
    assert choice is not None
    if choice.name is None:
        return (
            f"No kind is within {choice.limit:g} nats a token; the nearest is {choice.nearest} "
            f"with {_nats(choice.nearest_kl)}."
        )
    [kind] = [kind for kind in audit.kinds if kind.name == choice.name]
    stored = ", from the head as it is stored," if audit.dithered else ""
    return (
        f"The smallest within {choice.limit:g} nats a token{stored} is {choice.name}: "
        f"{_megabytes(kind.num_bytes)} MB, {share(kind.share)} of bfloat16."
    )


def blocks(audit: CostAudit, reference: Reference) -> Iterator[Any]:
    """The plane of bytes and divergence, the table, tails, predictions, trims."""
    yield Heading("Cheaper heads", "cheaper", "Cost")
    yield note(
        f"{number(audit.num_tokens)} predictions from "
        f"{counted(audit.num_documents, 'document')}, on states of the model as it is; fitted on "
        f"{number(audit.num_fit_tokens)} others. In brackets: {basis(audit.kinds[0].kl)}.",
        css="facts",
    )
    yield Notes(audit.notes)
    yield Pair([Panel(cost_chart(audit), LEGEND, f"{KINDS}.kl")])
    for sort, title in TITLES.items():
        yield by_item(
            title,
            [kind for kind in audit.kinds if kind.sort == sort],
            _name,
            MEASURES,
            KINDS,
            at=lambda _: f"{KINDS}.about",
            wide=WIDE,
            face=BOTH,
        )
    yield note(
        "A shift changes no prediction of a softmax, and every input of a model whose embedding is "
        "tied to the head: the shifted rows are for untied heads alone.",
        Caution(reference[f"{KINDS}.kl"].caution),
    )
    yield line(f"KL and acceptance by a token; {basis(audit.kinds[0].kl)}.")
    yield Details(
        ["How far the probability of single tokens moves, and how many drafted ones are accepted"],
        [by_item("Change of log p of the target, nats", audit.kinds, _name, TAILS, KINDS)],
    )
    yield Heading("Predicted", "predicted", "Predicted")
    yield note(
        "The divergence without running the cheap head: from ",
        Link("the change of the logits", f"{KINDS}.predicted.change"),
        ", from ",
        Link("independent noise", f"{KINDS}.predicted.noise"),
        ", and from ",
        Link("weights and second moments alone", f"{KINDS}.predicted.moments"),
        f"; 1 - E sum p^2 is {number(1 - audit.concentration)}.",
    )
    yield by_item("KL measured and predicted, nats", audit.kinds, _name, PREDICTED, KINDS)
    yield by_item(
        "Moved within its own steps, then rounded",
        audit.dithered,
        lambda one: one.name,
        [("KL, nats", "kl", _divergence), ("95 % interval", "kl.low", _between)],
        "cost.dithered[]",
    )
    yield Heading("By count of the target", "cost-counts")
    yield Details(["Divergence by how often the target stands elsewhere"], [_by_count(audit)])
    yield Heading("Trimmed vocabularies", "trims", "Trims")
    yield note(
        "Special tokens, and the ids that stand most often among "
        f"{number(audit.counted)} tokens of the text elsewhere. As a drafter such a head is "
        "rejected with the missing probability.",
    )
    yield by_item(
        "The most frequent rows alone",
        audit.trims,
        lambda one: number(one.num_rows),
        TRIMS,
        "cost.trims[]",
        first="rows",
        face=BOTH,
    )
    yield note(Caution(reference["cost.trims[].missing"].caution))


def _name(kind: Kind) -> str:
    return visible(kind.name)


def _by_count(audit: CostAudit) -> Table | None:
    heads = [part.count for part in audit.kinds[0].by_count]
    rows = [(_name(kind), "", [_nats(part.kl) for part in kind.by_count]) for kind in audit.kinds]
    columns = [Column(head, f"{KINDS}.by_count[].kl") for head in heads]
    return Table("KL by count of the target, nats", columns, rows, first="stands elsewhere")


LEGEND = (
    "Further left is smaller, further down is nearer to the full head: the better choice lies to "
    "the lower left. Dots: rounded to nearest. Rings: the same formats with fitted scales or "
    "codes. Lines: low rank, factors in bf16 and int8. Divergences under 0.001 nat are drawn at "
    "the foot."
)


def cost_chart(audit: CostAudit) -> Chart:
    """Divergence against bytes, all kinds in one plane."""
    drawn = [kind for kind in audit.kinds if kind.sort in ("format", "better", "low rank")]
    lines = [
        _points([kind for kind in drawn if kind.sort == sort], color, marker, joined=joined)
        for sort, color, marker, joined in DRAWN
    ]
    for factors, color in (("bf16", "c-raw"), ("int8 row", "c-fisher")):
        kinds = [k for k in drawn if k.sort == "low rank" and k.name.endswith(factors)]
        lines.append(_points(kinds, color, "dot", joined=True, name=f"rank, {factors[:4]}"))
    heights = [max(kind.kl.value, LOWEST) for kind in drawn]
    return Chart(
        "Divergence against bytes",
        "Mean KL divergence of a cheaper head from the full one against its bytes, both on "
        "logarithmic axes.",
        logarithmic("MB", [kind.num_bytes / 1e6 for kind in drawn]),
        logarithmic("KL(full || cheap), nats a token", heights, low=LOWEST),
        [one for one in lines if one.x],
    )


def _points(
    kinds: Sequence[Kind], color: str, marker: str, *, joined: bool, name: str = ""
) -> Line:
    return Line(
        name,
        color,
        [kind.num_bytes / 1e6 for kind in kinds],
        [max(kind.kl.value, LOWEST) for kind in kinds],
        low=[kind.kl.low and max(kind.kl.low, LOWEST) for kind in kinds],
        high=[kind.kl.high for kind in kinds],
        markers=marker,
        joined=joined,
        named=[] if marker == "ring" or joined else [kind.name for kind in kinds],
    )


SECTION = Section(
    audit=section,
    summary=summary,
    blocks=blocks,
    headings={"": "Cost"},
    symbols="Of cost: p is the head's prediction, q the cheaper head's, dz the change of the "
    "logits, dw_i that of row i.",
)
