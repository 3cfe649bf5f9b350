"""What the page has of the reproduction: heads over seeds, charts, and the papers' numbers."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from wideneck.lab.published import prose
from wideneck.lab.sigsoftmax.arms import Arm
from wideneck.lab.sigsoftmax.beside import beside, of_runs, recalled, sign
from wideneck.lab.sigsoftmax.charts import rank_and_loss, spectra
from wideneck.lab.sigsoftmax.known_rank.table import blocks as known_rank
from wideneck.lab.sigsoftmax.recipes import SCALES
from wideneck.lab.sigsoftmax.reproduction import Reproduction
from wideneck.lab.spread import Paired, cell, spread
from wideneck.lab.tables import Theirs, table
from wideneck.lab.verdict import RECALLED, published_cell
from wideneck.report.parts import Pair, Panel, Table
from wideneck.training.loop import perplexity

DATA = list(SCALES["paper"])
"""The texts of the papers."""
DIGITS = {"test perplexity": 2, "rank": 0}
"""The replication's numbers that stand beside ours."""


def said(found: Reproduction) -> dict[str, str]:
    """Places of the page's sentences."""
    seeds, words = len({run.seed for run in found.runs}), prose("sigsoftmax")
    of_a_paper = found.data in DATA  # another text's sign says nothing
    return {
        "seeds": f"{seeds} seeds" if seeds > 1 else "one seed",
        "sign": words["sign"] if of_a_paper else "",
        "signs": f"{found.data}'s sign" if of_a_paper else "",
        "small": words["small"] if found.settings["scale"] == "small" else "",
    }


def parts(found: Reproduction) -> dict[str, Sequence[Any]]:
    """The rows of the tables, the charts, and the tables of the papers' numbers."""
    arms = [_row(found, arm) for arm in found.arms]
    texts = [found.data] if found.data in DATA else DATA
    return {
        "arms": arms,
        "compared": [arm for arm in arms if arm.against_softmax is not None],
        "charts": [Pair([Panel(rank_and_loss(found)), Panel(spectra(found))])],
        "numbers": [shown(found, data) for data in texts for shown in (_published, _recalled)],
        "known_rank": [*known_rank(found.known_rank)] if found.known_rank else [],
    }


def _row(found: Reproduction, arm: Arm) -> Any:
    against = arm.against_softmax
    return SimpleNamespace(
        **vars(arm),
        digits=2 if found.settings["scale"] == "paper" else 1,
        validation=spread([perplexity(loss) for loss in of_runs(found, arm, "valid_loss")]),
        training=perplexity(arm.figures["train_loss"].mean),
        bound=of_runs(found, arm, "rank_bound")[0],
        interval=against and _interval(against),
        sign=sign(found, arm) if against and found.data in DATA else "",
    )


def _interval(ours: Paired) -> str:
    if ours.low is None or ours.high is None:
        return ""
    return f"[{ours.low:+.4f}, {ours.high:+.4f}]"


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
    measures = dict.fromkeys(measure for row in rows.values() for measure in row)
    lines = [Theirs(name, {m: n.printed for m, n in row.items()}) for name, row in rows.items()]
    title = f"{data}: {found.published.paper}, {RECALLED}: shown, never compared"
    return table(title, lines, [("", ""), *((name, "", name) for name in measures)])
