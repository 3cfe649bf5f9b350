"""The reproduction on a page and in 80 columns: heads over seeds, the papers' lines beside."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from wideneck.lab.published import Published, PublishedResult, prose
from wideneck.lab.sigsoftmax.charts import rank_and_loss, spectra
from wideneck.lab.sigsoftmax.known_rank.table import blocks as known_rank
from wideneck.lab.sigsoftmax.reproduction import SCALES, Arm, Reproduction
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
from wideneck.training.loop import perplexity

DATA = list(SCALES["paper"])
"""The texts of the papers."""
REPLICATION = "Table 2"
"""Of Parthiban et al.: 11 seeds, the target that is checked."""
DIGITS = {"test perplexity": 2, "rank": 0}
"""Its numbers that stand beside ours."""
OURS = {"PLIF": "another start"}
"""Arms that differ from the paper's at its own scale: a PLIF of ours starts as the softmax, that of
Ganea et al. with random slopes."""

AGAINST: Columns = (
    ("", "{name}"),
    ("nats a token", "{against_softmax:+.4f ± }"),
    ("95 % interval", lambda arm: _interval(arm.against_softmax), "against_softmax.low"),
    ("seeds", "{against_softmax.seeds_to_see:,}"),
)


def said(found: Reproduction) -> dict[str, str]:
    """Places of the page's sentences."""
    seeds, words = len({run.seed for run in found.runs}), prose("sigsoftmax")
    return {
        "seeds": f"{seeds} seeds" if seeds > 1 else "one seed",
        "sign": words["sign"] if found.data in DATA else "",
        "small": words["small"] if found.settings["scale"] == "small" else "",
    }


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The tables, the charts."""
    of_arms = partial(table, fields="arms[]", known=reference)
    compared = [arm for arm in found.arms if arm.against_softmax is not None]
    if found.data in DATA:
        texts, signs = [found.data], [(f"{found.data}'s sign", partial(sign, found))]
    else:
        texts, signs = DATA, []  # another text's sign says nothing
    ranks = "Ranks of the matrix of log-probabilities, and the scores"
    yield [
        Heading("Perplexity", "perplexity", "Perplexity"),
        of_arms(
            "Perplexity, mean and standard deviation over seeds", found.arms, _perplexities(found)
        ),
        of_arms("Test loss minus that of the softmax, seed by seed", compared, [*AGAINST, *signs]),
    ]
    yield [
        Heading("Rank", "rank", "Rank"),
        of_arms(ranks, found.arms, _ranks(found)),
        Pair([Panel(rank_and_loss(found)), Panel(spectra(found))]),
    ]
    yield [
        Heading("The papers' numbers", "numbers", "Numbers"),
        *(shown(found, data) for data in texts for shown in (_published, _recalled)),
    ]
    if found.known_rank:
        yield [
            Heading("A language of known rank", "known-rank", "Known rank"),
            *known_rank(found.known_rank),
        ]


def _perplexities(found: Reproduction) -> Columns:
    digits = 2 if found.settings["scale"] == "paper" else 1

    def valid(arm: Arm) -> str:
        losses = _of_runs(found, arm, "valid_loss")
        return cell(spread([perplexity(loss) for loss in losses]), digits)

    return (
        ("", "{name}"),
        ("parameters", "{num_parameters:,.0f}"),
        ("validation", valid, "figures"),
        ("test", f"{{test_perplexity:.{digits}f ± }}"),
        ("training", lambda arm: f"{perplexity(arm.figures['train_loss'].mean):,.1f}", "figures"),
        ("tokens/s", "{tokens_per_second:,.0f}"),
    )


def _ranks(found: Reproduction) -> Columns:
    return (
        ("", "{name}"),
        ("bound", lambda arm: f"{_of_runs(found, arm, 'rank_bound')[0]:,}"),
        ("Press", "{rank:.0f ± }"),
        ("1e-3", "{effective_1e3:.0f ± }"),
        ("1e-4", "{effective_1e4:.0f ± }"),
        ("1e-5", "{effective_1e5:.0f ± }"),
        ("mean z", "{mean_logit:.1f}"),
        ("|z| < 5, %", "{share_curved.percent:.0f}"),
    )


def _published(found: Reproduction, data: str) -> Table:
    columns: list[Any] = [
        ("", "{ours}, {published.measure}"),
        ("published", lambda one: published_cell(one.published)),
        ("ours", lambda one: cell(one.figure, DIGITS[one.published.measure])),
        ("gap", lambda one: f"{one.verdict.gap:+,.{DIGITS[one.published.measure]}f}"),
        ("verdict", "{verdict.words}"),
    ]
    rows = [one for measure in DIGITS for one in beside(found, data, measure)]
    title = f"{data}: Parthiban, Mao & Inkpen, AAAI 2021, Table 2 (11 seeds), and ours"
    words = {one.words for one in rows}
    if len(words) == 1:  # one sentence for the whole table, where it is the same everywhere
        title, columns = f"{title}; {words.pop()}", columns[:-1]
    return table(title, rows, columns)


def _recalled(found: Reproduction, data: str) -> Table:
    rows = recalled(found, data)
    measures = list(dict.fromkeys(measure for row in rows.values() for measure in row))
    lines = [
        Line([name, *(row[m].printed if m in row else "" for m in measures)])
        for name, row in rows.items()
    ]
    title = f"{data}: {found.published.paper}, {RECALLED}: shown, never compared"
    return table(title, lines, [(name, "") for name in ("", *measures)])


def rows_of(published: Published, **wanted: str) -> dict[str, PublishedResult]:
    """The papers' numbers by the name of the head, with which their rows begin."""
    return {row.row.split(" ")[0]: row for row in published.find(**wanted)}


def beside(found: Reproduction, data: str, measure: str) -> Iterator[Comparison]:
    """The replication's numbers of one measure beside ours."""
    other = "" if found.settings["scale"] == "paper" else "another scale"
    if data != found.data:
        other = "another text"
    rows = rows_of(found.published, table=REPLICATION, data=data, measure=measure)
    for arm in found.arms:
        if row := rows.get(arm.name.lower()):
            values = _of_runs(found, arm, measure.replace(" ", "_"))
            yield compared_number(row, arm.name, values, other=other or OURS.get(arm.name, ""))


def sign(found: Reproduction, arm: Arm) -> str:
    """Whether our difference to the softmax has the sign of the replication's, if it has one."""
    wanted = {"table": REPLICATION, "data": found.data, "measure": "test perplexity"}
    rows = rows_of(found.published, **wanted)
    more = rows.get(arm.name.lower())
    if more is None:
        return ""
    return judge_difference(more, rows["softmax"], arm.against_softmax).words


def recalled(found: Reproduction, data: str) -> dict[str, dict[str, PublishedResult]]:
    """Numbers that could not be checked, by row and measure; they are shown, never compared."""
    rows: dict[str, dict[str, PublishedResult]] = {}
    for result in found.published.find(data=data, status="recalled"):
        rows.setdefault(result.row, {})[result.measure] = result
    return rows


def _of_runs(found: Reproduction, arm: Arm, figure: str) -> list[Any]:
    return [getattr(run, figure) for run in found.runs if run.arm == arm.name]


def _interval(ours: Paired) -> str:
    if ours.low is None or ours.high is None:
        return ""
    return f"[{ours.low:+.4f}, {ours.high:+.4f}]"
