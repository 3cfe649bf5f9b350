"""The reproduction on a page and in 80 columns: curves, then the paper's words beside ours."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from wideneck.lab.attention.reproduction import Point, Reproduction
from wideneck.lab.spread import Spread, cell
from wideneck.lab.tables import Columns, Line, table
from wideneck.lab.verdict import Comparison, published_cell
from wideneck.report.parts import BOTH, Heading, Table, note, paragraph
from wideneck.report.reference import Reference

NONE = "-"
SIZES = {
    "mass": ("mass", 2),
    "distance": ("distance", 0),
    "bound, derived": ("bound", 0),
    "expectation": ("expected_monte_carlo", 0),
    "N_s / N": ("separability", 2),
}
LENGTHS = {
    "effective keys": ("effective_keys", 1),
    "distance": ("distance", 0),
    "bound, derived": ("bound", 0),
    "expectation": ("expected_monte_carlo", 1),
}
NORMS = {
    "exact norm": ("spectral", 3),
    "largest row": ("spectral_highest", 3),
    "bound": ("paper_bound", 3),
}
"""Head of a column -> the figure, and its digits."""
NUMBERS: Columns = (
    ("", "  {ours}"),
    ("ours", lambda one: _number(one)),
    ("gap", lambda one: NONE if one.verdict.gap is None else f"{one.verdict.gap:+.2f}"),
    ("verdict", lambda one: one.words.partition(":")[0]),
)
CLAIMS: Columns = (
    ("", "  {ours}"),
    ("ours", lambda one: _cell(one.figure, 2)),
    ("holds if", lambda one: _criterion(one)),
    ("verdict", lambda one: one.words),
)


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The curves, the numbers, the statements and what cannot be compared."""
    size = found.runs[0].audit.reference_size
    steps = [name for point in found.by_temperature[:1] for name in point.figures if "step" in name]
    over_n = "Over N selected keys: sums over all other keys, means over queries and heads"
    over_t = "Over T, largest head: finite differences by step, exact norm, corollary 3"
    norms = {name: (name, 4) for name in steps} | NORMS
    yield [
        Heading("What heads select", "curves", "Curves"),
        _curve(over_n, "N", "by_size[]", found.by_size, SIZES, reference),
        _curve(
            f"Over L tokens, N = {size}", "L", "by_length[]", found.by_length, LENGTHS, reference
        ),
        _curve(over_t, "T", "by_temperature[]", found.by_temperature, norms, reference)
        if steps
        else None,
    ]
    yield [
        Heading("The paper's numbers", "numbers", "Numbers"),
        _beside(
            "The paper's numbers, and below each of them ours",
            found.numbers,
            lambda published: (
                f"{published.table}: {published.measure}: {published_cell(published)}"
            ),
            NUMBERS,
            gap=1,
        ),
        paragraph(f"Not comparable: {found.other}.") if found.other else None,
    ]
    yield [
        Heading("The paper's statements", "statements", "Statements"),
        _beside(
            "The paper's statements, and below each of them ours",
            found.claims,
            lambda claim: f"{claim.table}: {claim.says}",
            CLAIMS,
            gap=0,
        ),
        paragraph("Not compared:"),
        *(note(f"- {line}", face=BOTH) for line in _left(found)),
    ]
    yield [Heading("How to read it", "reading", "Reading"), *map(paragraph, _reading(found))]


def _curve(
    title: str,
    at: str,
    fields: str,
    points: Sequence[Point],
    figures: dict[str, tuple[str, int]],
    reference: Reference,
) -> Table:
    def of(name: str, digits: int) -> Callable[[Point], str]:
        return lambda point: _cell(point.figures.get(name), digits)

    place = (at, lambda point: f"{point.at:.3g}" if point.at < 10 else f"{point.at:g}")
    columns = [place, *((head, of(*figure), "figures") for head, figure in figures.items())]
    return table(title, points, columns, fields, reference)


def _beside(
    title: str,
    found: Sequence[Comparison],
    says: Callable[[Any], str],
    columns: Columns,
    *,
    gap: int,
) -> Table:
    """What the paper has, and below each of it ours."""
    rows: list[Any] = []
    for published, ours in groupby(found, lambda one: one.published):
        rows += [Line([says(published)]), *ours]
    return table(title, rows, columns, gap=gap, words=["verdict"])


def _number(one: Comparison) -> str:
    if one.figure is None:
        return f"none in {one.values.count(None)} of {len(one.values)}"
    return cell(one.figure, 2)


def opening(found: Reproduction) -> str:
    """Model, text and what is measured."""
    audit, settings = found.runs[0].audit, found.settings
    seeds = len(found.runs)
    model = settings["model"] or "the default model"
    over = f"{seeds} seeds, mean and standard deviation" if seeds > 1 else "one seed"
    return (
        f"Attention heads, {found.published.url}. Ours: {model}, {len(audit.heads)} heads, "
        f"{audit.normalizer}; {found.text}; {audit.num_windows} window of {audit.context:,} tokens "
        f"a seed, {audit.num_queries:,} queries of it; x_i are {audit.vectors}; {over}. "
        "The paper's: GPT-2 124M, 144 heads, War and Peace."
    )


def _left(found: Reproduction) -> Iterable[str]:
    for name, why in found.not_compared.items():
        claim = found.published.claim(name)
        yield f"{claim.table}: {claim.says}. {why}"
    heads = found.published.one(row="three heads, if independent")
    yield f"{heads.table}: {heads.measure}, {heads.row}: {heads.printed}. As above."
    yield "The points of the figures. Only what the text says of them was at hand."
    minutes = [result.printed for result in found.published.find(measure="minutes")]
    ours = statistics.fmean(run.seconds for run in found.runs) / 60
    yield (
        f"Table 1: {', '.join(minutes)} minutes for algorithms 1 to 5 on an Apple M1 Pro. Here one "
        f"pass makes all five, {ours:.1f} minutes a seed, on another machine."
    )


def _reading(found: Reproduction) -> Iterable[str]:
    yield (
        "Expectation: of the distance for N random keys, by Monte Carlo. N_s / N: share of the "
        "selected keys that are told from all others, median head. The paper leaves open what x_i "
        "is and which keys count: here the values, scaled to length 1 for N_s / N alone, and the "
        "keys that a query sees. Queries that see no more than N keys are left out."
    )
    yield (
        "Gap: ours minus the paper's. Critical N: none where the test rejects at every N up to "
        f"{found.settings['measured']['critical_up_to']}. The range in which a statement holds is "
        "ours; it holds in the table where it does in every seed, and one about each row does not "
        "where a single row breaks it."
    )
    yield (
        "Described, not judged: figures that stand on theorem 1's bound (its bracket), on the main "
        "term of theorem 1.2 or on theorem 2. These forms are DERIVED, rebuilt by us from the "
        "paper's prose, or ours altogether, as the upper bound of the expectation; what they give "
        "says nothing of the paper's own."
    )


def _criterion(one: Comparison) -> str:
    if one.low is not None and one.high is not None:
        return f"{one.low:g} to {one.high:g}"
    if one.low is not None:
        return f"\N{GREATER-THAN OR EQUAL TO} {one.low:g}"
    return "" if one.high is None else f"\N{LESS-THAN OR EQUAL TO} {one.high:g}"


def _cell(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return NONE
    # What no seed moves is a formula's: it has no spread to show.
    return f"{spread.mean:.{digits}f}" if spread.std == 0 else cell(spread, digits)
