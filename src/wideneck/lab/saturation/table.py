"""The reproduction on a page and in 80 columns: ours over seeds, the paper's beside."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from wideneck.lab.published import Published, prose
from wideneck.lab.saturation.charts import heads_of_rank, over_steps
from wideneck.lab.saturation.ngrams import Ngrams
from wideneck.lab.saturation.reproduction import Reproduction
from wideneck.lab.saturation.scaling import Laws
from wideneck.lab.spread import in_words
from wideneck.lab.tables import Line, table
from wideneck.lab.verdict import MARKS, published_cell
from wideneck.report.numbers import basis
from wideneck.report.parts import BOTH, Heading, Pair, Panel, Prose, Table, line, note, paragraph
from wideneck.report.reference import Reference

WORDS = prose("saturation")
LARGEST = "Pythia-410M"
"""The one of those read off that the paper fits its law on."""
MEASURES = (
    "lowest singular entropy, nats",
    "step of the lowest",
    "final singular entropy, nats",
    *("", "", "final s_1 / s_0", "", ""),
)
"""Of the paper's models, in the columns of ours."""


def said(found: Reproduction) -> dict[str, object]:
    """What the sentences have places for."""
    untouched, heads = found.arms[-1].first, found.settings["heads"]
    other = heads["model"].get("model") or heads["data"].get("text")
    small = [row.gap_percent for row in found.laws.published.rows if row.name != LARGEST]
    return {
        "over": in_words(len({run.seed for run in found.family})),
        "model": _short(found.truncated.model),
        "untouched": untouched,
        "basis": basis(untouched),
        "chosen": "" if other or found.settings["scale"] != "small" else WORDS["chosen"],
        "its_gap": found.published.one(row="final checkpoints", table="section 3"),
        "read_gap": statistics.fmean(small),
        "num_models": len(found.family),
        "num_heads": len(found.heads),
        "seconds": sum(run.seconds for run in (*found.family, *found.heads)),
        "speed": statistics.fmean(run.tokens_per_second for run in found.family),
    }


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The tables, the charts."""
    places = {"found": found} | said(found)

    def told(name: str) -> Prose:
        return paragraph(WORDS[name].format_map(places))

    def shown(name: str, rows: Iterable[Any]) -> Table:
        kind = WORDS["tables"][name]
        caption = kind["caption"].format_map(places)
        # No gap: nine columns leave no room.
        return table(**kind | {"caption": caption}, rows=rows, known=reference, gap=0)

    yield [
        Heading("Models of every width", "family", "Widths"),
        shown("losses", found.widths),
        shown("geometry", [*found.widths, *_figures_4_and_5(found.published)]),
        Pair(
            [
                Panel(over_steps(found, "loss", "held-out loss, nats")),
                Panel(over_steps(found, "kl_sigma2", "singular entropy, nats")),
            ]
        ),
    ]
    yield [
        Heading("Heads of every rank", "heads", "Ranks"),
        shown("heads", found.arms),
        told("heads"),
        Pair([Panel(heads_of_rank(found))]),
        shown("figure_6", _figure_6(found.published)),
        told("other_heads"),
    ]
    yield [
        Heading("n-grams", "ngrams", "n-grams"),
        shown("ngrams", _ngrams(found.ngrams)),
        told("ngrams"),
    ]
    yield [
        Heading("Scaling laws", "laws", "Scaling laws"),
        shown("laws", _laws(found.laws)),
        told("laws"),
        told("refused") if found.laws.refused else None,
    ]
    yield [
        Heading("Beside the paper", "beside", "Beside the paper"),
        shown("compared", _compared(found.compared)),
        Heading("Statements of the paper", level=3),
        line("Statements of the paper", style="bold"),
        *_statements(found.claims),
    ]


def _figures_4_and_5(published: Published) -> Iterator[Line]:
    for model in published.find(data="output layer", measure="final singular entropy, nats"):
        at = {r.measure: r.printed for r in published.find(data="output layer", row=model.row)}
        name = f"  paper, {model.row.removeprefix('Pythia-')}"
        yield Line([name, *(at.get(measure, "") for measure in MEASURES)])


def _figure_6(published: Published) -> Iterator[Line]:
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    for one in published.find(table="Figure 6", measure="loss, nats"):
        losses[one.data][int(one.row.split()[2])] = one.value
    gaps = [
        {rank / max(of): f"{loss - of[max(of)]:+.3f}" for rank, loss in of.items()}
        for of in losses.values()
    ]
    for share in sorted({share for of in gaps for share in of if 1 / 64 <= share < 1}):
        yield Line(["", f"{share:.3f}", *(of.get(share, "") for of in gaps)])


def _ngrams(texts: Sequence[Ngrams]) -> Iterator[Any]:
    for text in texts:
        for n in text.orders:
            at = {point.d: point for point in n.unweighted.errors}
            yield SimpleNamespace(
                text=_short(text.tokens)[:8],
                n=n,
                once=100 * n.seen_once_share,
                one_hot=100 * n.one_hot_share,
                at_100=at.get(100),
                at_1000=at.get(1000),
            )


def _laws(laws: Laws) -> Iterator[Any]:
    kinds = vars(laws) | {"published": [laws.published]}
    for kind, name in WORDS["fits"].items():
        for fit in kinds[kind]:
            gap = fit.mean_gap_percent
            yield SimpleNamespace(
                name=name,
                fit=fit,
                counted=fit.counted.replace("_", "-"),
                gap=None if gap is None else f"{gap:+.1f} %",
            )


def _compared(numbers: Sequence[Any]) -> Iterator[Any]:
    """The law, and of the W-errors only the first of each text; JSON has all."""
    for one in numbers:
        if one.figure is not None and one.published.row in ("fitted", "d = 1000"):
            printed = published_cell(one.published).replace(MARKS["figure"], " (figure)")
            yield SimpleNamespace(**vars(one), printed=printed, said=one.words.split(":")[0])


def _statements(claims: Sequence[Any]) -> Iterator[Prose]:
    for one in claims:
        says = f"{one.published.table}{MARKS[one.published.status]}: {one.published.says}"
        yield paragraph(f"{says}.")
        yield note(f"Here: {one.ours}: {one.words}.", css="ours", face=BOTH)


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]
