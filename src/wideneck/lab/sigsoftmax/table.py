"""The reproduction on a page and in 80 columns: heads over seeds, the papers' lines beside."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wideneck.lab.published import Published, PublishedResult
from wideneck.lab.sigsoftmax.charts import rank_and_loss, spectra
from wideneck.lab.sigsoftmax.known_rank.table import blocks as known_rank
from wideneck.lab.sigsoftmax.reproduction import Arm, Reproduction
from wideneck.lab.sigsoftmax.settings import MATCHED
from wideneck.lab.spread import Paired, cell, spread
from wideneck.lab.tables import Columns, Line, table
from wideneck.lab.verdict import (
    RECALLED,
    Comparison,
    compared_number,
    judge_difference,
    published_cell,
)
from wideneck.report.parts import Heading, Pair, Panel, Table
from wideneck.report.reference import Reference

REPLICATION = "Table 2"
"""Of Parthiban et al.: 11 seeds, the target that is checked."""
DATA = ("PTB", "WikiText-2")
OURS = {"PLIF": "another start"}
"""Arms that differ from the paper's at its own scale: a PLIF of ours starts as the softmax, that of
Ganea et al. with random slopes."""

AGAINST: Columns = (
    ("", "{name}"),
    ("nats a token", "{against_softmax:+.4f ± }"),
    ("95 % interval", lambda arm: _interval(arm.against_softmax), "against_softmax.low"),
    ("seeds", "{against_softmax.seeds_to_see:,}"),
)


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The tables, the charts."""
    perplexity = "Perplexity, mean and standard deviation over seeds"
    data = [found.data] if found.data in DATA else []  # another text's sign says nothing
    yield [
        Heading("Perplexity", "perplexity", "Perplexity"),
        table(perplexity, found.arms, _perplexities(found), "arms[]", reference),
        table(
            "Test loss minus that of the softmax, seed by seed",
            [arm for arm in found.arms if arm.against_softmax is not None],
            [*AGAINST, *((f"{d}'s sign", lambda arm, d=d: sign(found, arm, d)) for d in data)],
            "arms[]",
            reference,
        ),
    ]
    yield [
        Heading("Rank", "rank", "Rank"),
        table(
            "Ranks of the matrix of log-probabilities, and the scores",
            found.arms,
            _ranks(found),
            "arms[]",
            reference,
        ),
        Pair([Panel(rank_and_loss(found)), Panel(spectra(found))]),
    ]
    yield [
        Heading("The papers' numbers", "numbers", "Numbers"),
        *(shown(found, data) for data in of_data(found) for shown in (_published, _recalled)),
    ]
    if found.known_rank:
        yield [
            Heading("A language of known rank", "known-rank", "Known rank"),
            *known_rank(found.known_rank),
        ]


def _perplexities(found: Reproduction) -> Columns:
    digits = 2 if found.settings["scale"] == "paper" else 1

    def valid(arm: Arm) -> str:
        losses = [run.valid_loss for run in found.runs if run.arm == arm.name]
        return cell(spread([_exp(loss) for loss in losses]), digits)

    return (
        ("", "{name}"),
        ("parameters", "{num_parameters:,.0f}"),
        ("validation", valid, "figures"),
        ("test", f"{{test_perplexity:.{digits}f ± }}"),
        ("training", lambda arm: f"{_exp(arm.figures['train_loss'].mean):,.1f}", "figures"),
        ("tokens/s", "{tokens_per_second:,.0f}"),
    )


def _ranks(found: Reproduction) -> Columns:
    bounds = {run.arm: run.rank_bound for run in reversed(found.runs)}
    return (
        ("", "{name}"),
        ("bound", lambda arm: f"{bounds[arm.name]:,}"),
        ("Press", "{rank:.0f ± }"),
        ("1e-3", "{effective_1e3:.0f ± }"),
        ("1e-4", "{effective_1e4:.0f ± }"),
        ("1e-5", "{effective_1e5:.0f ± }"),
        ("mean z", "{mean_logit:.1f}"),
        ("|z| < 5, %", "{share_curved.percent:.0f}"),
    )


def _published(found: Reproduction, data: str) -> Table:
    shown = []
    for measure, figure, digits in (("test perplexity", "test_perplexity", 2), ("rank", "rank", 0)):
        for one in beside(found, data, measure, figure):
            gap = "" if one.verdict.gap is None else f"{one.verdict.gap:+,.{digits}f}"
            ours = "" if one.figure is None else cell(one.figure, digits)
            name = f"{one.ours}, {measure}"
            published: Any = one.published
            shown.append([name, published_cell(published), ours, gap, one.words])
    words = {cells[-1] for cells in shown}
    names = ["", "published", "ours", "gap", "verdict"]
    title = f"{data}: Parthiban, Mao & Inkpen, AAAI 2021, Table 2 (11 seeds), and ours"
    if len(words) == 1:  # one sentence for the whole table, where it is the same everywhere
        title, names = f"{title}; {words.pop()}", names[:-1]
    lines = [Line(cells[: len(names)], beside=False) for cells in shown]
    return table(title, lines, [(name, "") for name in names])


def _recalled(found: Reproduction, data: str) -> Table:
    rows = recalled(found, data)
    measures = list(dict.fromkeys(measure for row in rows.values() for measure in row))
    lines = [
        Line([name, *(row[m].printed if m in row else "" for m in measures)])
        for name, row in rows.items()
    ]
    title = f"{data}: {found.published.paper}, {RECALLED}: shown, never compared"
    return table(title, lines, [(name, "") for name in ("", *measures)])


def of_data(found: Reproduction) -> list[str]:
    """The texts of the papers to show: the one that was used, or both beside another text."""
    return [found.data] if found.data in DATA else list(DATA)


def row_of(published: Published, arm: str, **wanted: str) -> PublishedResult | None:
    """The paper's number of an arm, where there is one: its row begins with the head's name."""
    rows = [r for r in published.find(**wanted) if r.row.split(" ")[0] == arm.lower()]
    return rows[0] if rows else None


def beside(found: Reproduction, data: str, measure: str, figure: str) -> Iterator[Comparison]:
    """The replication's numbers of one measure beside ours."""
    other = "" if found.settings["scale"] == "paper" and data == found.data else "another scale"
    if data != found.data:
        other = "another text"
    for arm in found.arms:
        row = row_of(found.published, arm.name, table=REPLICATION, data=data, measure=measure)
        if row is None:
            continue
        values = [getattr(run, figure) for run in found.runs if run.arm == arm.name]
        yield compared_number(row, arm.name, values, other=other or OURS.get(arm.name, ""))


def sign(found: Reproduction, arm: Arm, data: str) -> str:
    """Whether our difference to the softmax has the sign of the replication's."""
    wanted = {"table": REPLICATION, "data": data, "measure": "test perplexity"}
    more = row_of(found.published, arm.name, **wanted)
    less = row_of(found.published, "softmax", **wanted)
    ours = arm.against_softmax
    if more is None or less is None or ours is None:
        return ""
    return judge_difference(more, less, ours).words


def recalled(found: Reproduction, data: str) -> dict[str, dict[str, PublishedResult]]:
    """Numbers that could not be checked, by row and measure; they are shown, never compared."""
    rows: dict[str, dict[str, PublishedResult]] = {}
    for result in found.published.find(data=data, status="recalled"):
        rows.setdefault(result.row, {})[result.measure] = result
    return rows


def opening(found: Reproduction) -> str:
    """Scale, text and length of the runs."""
    first = found.runs[0]
    seeds = len({run.seed for run in found.runs})
    counts = found.counts
    return (
        f"Sigsoftmax at the {found.settings['scale']} scale on {found.data}: "
        f"{counts['train']:,} training tokens, {counts['vocab_size']:,} words; "
        f"{first.epochs:.3g} epochs ({first.tokens:,} tokens) a run, "
        f"{f'{seeds} seeds' if seeds > 1 else 'one seed'}."
    )


def reading(found: Reproduction) -> Iterable[str]:
    """What the numbers say and do not say."""
    first = found.runs[0]
    yield (
        "Seeds: runs of each arm with which a t-test at 5 % would see a difference of this size in "
        "80 % of repetitions, from the deviation of these few; not that these few did."
    )
    if found.data in DATA:
        yield "Sign: our difference beside the replication's, for rows that it has."
    yield (
        f"Ranks: of {first.num_contexts:,} x {found.counts['vocab_size']:,} log-probabilities. "
        "Press: singular values above sqrt(N + V + 1)/2 s_0 2^-23; 1e-3, 1e-4, 1e-5: the fewest "
        "squared singular values that sum to all but that share. A rank is no quality: compare it "
        "with the perplexities above."
    )
    if found.settings["scale"] == "small":
        yield (
            "A small model trained briefly is another experiment than the papers'. One learning "
            f"rate for all heads. {MATCHED}: a wider model with no fewer parameters than the "
            "mixtures'. "
            "tokens/s: one thread a run, runs side by side."
        )


def _interval(ours: Paired) -> str:
    if ours.low is None or ours.high is None:
        return ""
    return f"[{ours.low:+.4f}, {ours.high:+.4f}]"


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))
