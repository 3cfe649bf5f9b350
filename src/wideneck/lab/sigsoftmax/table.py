"""The reproduction on a page and in 80 columns: heads over seeds, the papers' lines beside."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from wideneck.lab.sigsoftmax.beside import DATA, beside, of_data, recalled, sign
from wideneck.lab.sigsoftmax.charts import rank_and_loss, spectra
from wideneck.lab.sigsoftmax.known_rank.table import blocks as known_rank
from wideneck.lab.sigsoftmax.reproduction import Arm, Reproduction
from wideneck.lab.sigsoftmax.settings import MATCHED
from wideneck.lab.spread import Paired, cell, spread
from wideneck.lab.tables import Columns, Line, table
from wideneck.lab.verdict import RECALLED, published_cell
from wideneck.report.parts import Heading, Pair, Panel, Table, paragraph
from wideneck.report.reference import Reference

AGAINST: Columns = (
    ("", "{name}"),
    ("nats a token", "{against_softmax:+.4f ± }"),
    ("95 % interval", lambda arm: _interval(arm.against_softmax), "against_softmax.low"),
    ("seeds", "{against_softmax.seeds_to_see:,}"),
)


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The tables, the charts and how to read them."""
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
        Pair([Panel(chart, chart.description) for chart in (rank_and_loss(found), spectra(found))]),
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
    yield [Heading("How to read it", "reading", "Reading"), *map(paragraph, _reading(found))]


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
        ("|z| < 5, %", lambda arm: f"{arm.figures['share_curved'].times(100):.0f}", "figures"),
    )


def _published(found: Reproduction, data: str) -> Table:
    shown = []
    for measure, figure, digits in (("test perplexity", "test_perplexity", 2), ("rank", "rank", 0)):
        for one in beside(found, data, measure, figure):
            gap = "" if one.verdict.gap is None else f"{one.verdict.gap:+,.{digits}f}"
            ours = "" if one.figure is None else cell(one.figure, digits)
            name = f"{one.ours}, {measure}"
            shown.append([name, published_cell(one.published), ours, gap, one.words])
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


def _reading(found: Reproduction) -> Iterable[str]:
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
