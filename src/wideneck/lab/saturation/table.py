"""The reproduction on a page and in 80 columns: ours over seeds, the paper's beside."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.lab import tables
from wideneck.lab.published import Published
from wideneck.lab.saturation.charts import heads_of_rank, over_steps
from wideneck.lab.saturation.ngrams import NgramDimensionality
from wideneck.lab.saturation.reproduction import Reproduction
from wideneck.lab.saturation.scaling import ScalingFit
from wideneck.lab.spread import PLUS_MINUS
from wideneck.lab.tables import Columns, Line
from wideneck.lab.verdict import MARKS, published_cell
from wideneck.report.numbers import basis
from wideneck.report.parts import BOTH, Heading, Pair, Panel, Table, line, note, paragraph
from wideneck.report.reference import Reference

table = partial(tables.table, gap=0)  # nine columns leave no room

FIGURE_6 = ("Pythia-410M", "Pythia-1B", "Llama-7B")
LARGEST = "Pythia-410M"
"""The one of those read off that the paper fits its law on."""
DIMENSIONS = (100, 1000)
"""The d at which the table tells the W-error of n-grams; JSON has more."""
ARMS = {"own": "softmax", "whitened": "r = {}", "random": "random {}"}

LOSSES: Columns = (
    ("", "d = {width}"),
    ("parameters", "{num_parameters:,}"),
    ("best", "{best_loss:.3f±}"),
    ("at step", "{best_step:,.0f}"),
    ("its train", "{best_train_loss:.3f}"),
    ("final", "{final_loss:.3f±}"),
    ("its train", "{final_train_loss:.3f}"),
    ("rise", "{rise.mean:.3f}"),
)
GEOMETRY: Columns = (
    ("", "d = {width}"),
    ("KL lowest", "{kl_sigma2_lowest:.3f}"),
    ("at step", "{kl_sigma2_lowest_step:,.0f}"),
    ("KL final", "{kl_sigma2:.2f±}"),
    ("/ log d", "{kl_sigma2_share:.2f}"),
    ("centred", "{kl_sigma2_centred:.2f}"),
    ("s1/s0", "{second_value:.2f}"),
    ("mean row", "{mean_row_share:.2f}"),
    ("aniso.", "{anisotropy:.2f}"),
)
HEADS: Columns = (
    ("", lambda arm: ARMS[arm.start].format(arm.rank)),
    ("r/d", "{share:.2f}"),
    ("W-err", "{w_error:.2f}"),
    ("cent.", "{w_error_centred:.2f}"),
    ("cut", "{first_gap.value:+.3f}"),
    ("foreseen", "{whitened.predicted:+.3f}"),
    ("plain", "{plain.measured.value:+.2f}"),
    ("trained", "{trained_gap.value:+.3f}"),
    (PLUS_MINUS, lambda arm: _half(arm.trained_gap)),
    ("to r=d", "{full_gap.value:+.3f}"),
    (PLUS_MINUS, lambda arm: _half(arm.full_gap)),
    ("slope", "{slope:+.3f}"),
)
COMPARED: Columns = (
    ("", "{published.table}, {published.data}: {published.measure}, {published.row}"),
    ("published", lambda one: published_cell(one.published).replace(MARKS["figure"], " (figure)")),
    ("ours", "{figure:.3g}"),
    ("verdict", lambda one: one.words.split(":")[0]),
)


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The tables, the charts and how to read them."""
    losses = "The family: held-out and training loss, nats a token"
    geometry = "Output layer (singular entropy of squared values, nats) and held-out states"
    heads = f"Heads of rank r on frozen states of {_short(found.truncated.model)}"
    rows = [*found.widths, *_figure_5(found.published)]
    yield [
        Heading("Models of every width", "family", "Widths"),
        table(losses, found.widths, LOSSES, "widths[]", reference),
        table(geometry, rows, GEOMETRY, "widths[]", reference),
        Pair(
            [
                Panel(over_steps(found, "loss", "held-out loss, nats")),
                Panel(over_steps(found, "kl_sigma2", "singular entropy, nats")),
            ]
        ),
    ]
    yield [
        Heading("Heads of every rank", "heads", "Ranks"),
        table(heads, found.arms, HEADS, "arms[]", reference),
        paragraph(_of_heads(found)),
        Pair([Panel(heads_of_rank(found))]),
        _figure_6(found.published),
        paragraph(
            "Another experiment: there both factors start at random and see 150M tokens; here they "
            "start from the model's own output layer and see few."
        ),
    ]
    yield [Heading("n-grams", "ngrams", "n-grams"), *_ngrams(found)]
    yield [Heading("Scaling laws", "laws", "Scaling laws"), *_laws(found)]
    yield [Heading("Beside the paper", "beside", "Beside the paper"), *_compared(found)]
    yield [Heading("How to read it", "reading", "Reading"), *map(paragraph, _reading(found))]


def _figure_5(published: Published) -> Iterable[Line]:
    for row in published.find(table="Figure 5", data="output layer"):
        if row.measure != "final singular entropy, nats":
            continue
        at = {r.measure: r.printed for r in published.find(row=row.row, table="Figure 5")}
        ratio = published.find(row=row.row, table="Figure 4")
        lowest = (
            at.get(name, "") for name in ("lowest singular entropy, nats", "step of the lowest")
        )
        shown = ["", "", ratio[0].printed if ratio else "", "", ""]
        yield Line([f"  paper, {row.row.removeprefix('Pythia-')}", *lowest, row.printed, *shown])


def _of_heads(found: Reproduction) -> str:
    untouched, chosen = found.arms[-1].first, ""
    if found.settings["scale"] == "small":
        chosen = " The rates, a power of r, were chosen on seed 0, which is here, and flatter it."
    return (
        "W-err: W-error(r) of the model's own output layer; cent.: the same without its mean row, "
        "which a softmax does not see. "
        f"Nats a token; the untouched output layer's loss is {untouched.value:.3f}. cut: whitened "
        "truncation less the untouched; foreseen: the audit's second-order prediction of it; "
        "plain: the plain truncation; trained: after training, less the untouched; to r=d: less "
        f"the trained softmax. {PLUS_MINUS}: half the width, {basis(untouched)}. "
        f"slope: change over the last 10 % of the steps.{chosen}"
    )


def _figure_6(published: Published) -> Table:
    found: dict[float, dict[str, float]] = {}
    for model in FIGURE_6:
        rows = published.find(table="Figure 6", data=model, measure="loss, nats")
        ranks = {int(row.row.split()[2]): row.value for row in rows}
        full = max(ranks)
        for rank, loss in ranks.items():
            found.setdefault(rank / full, {})[model] = loss - ranks[full]
    lines = [
        Line(["", f"{share:.3f}", *(f"{gaps[m]:+.3f}" if m in gaps else "" for m in FIGURE_6)])
        for share, gaps in sorted(found.items())
        if 1 / 64 <= share != 1
    ]
    title = f"The paper's Figure 6: loss less that of r = d, nats{MARKS['figure']}"
    return table(title, lines, [(name, "") for name in ("", "r/d", *FIGURE_6)])


def _ngrams(found: Reproduction) -> Iterator[Any]:
    def error(n: NgramDimensionality, d: int, name: str) -> str:
        at = [getattr(e, name) for e in n.unweighted.errors if e.d == d]
        return "" if not at or at[0] is None else f"{at[0]:.3f}"

    columns = [
        ("", lambda row: f"{_short(row[0].tokens)[:8]}, n = {row[1].order}"),
        ("contexts", lambda row: f"{row[1].num_contexts:,}"),
        ("once", lambda row: f"{100 * row[1].seen_once_share:.0f} %"),
        ("one-hot", lambda row: f"{100 * row[1].one_hot_share:.0f} %"),
        ("half", lambda row: str(row[1].unweighted.half or "")),
        ("null", lambda row: str(row[1].unweighted.half_null)),
    ]
    for d in DIMENSIONS:
        columns += [
            (f"W({d})", lambda row, d=d: error(row[1], d, "w_error")),
            ("null", lambda row, d=d: error(row[1], d, "w_error_null")),
        ]
    yield table(
        "n-grams: W-error(d), each context once, beside the diagonal's null",
        [(one, n) for one in found.ngrams for n in one.orders],
        columns,
    )
    yield paragraph(
        "once: contexts that occur once; one-hot: that one token alone follows; half: the smallest "
        "d with W-error <= 1/2. null: from the diagonal of W^T W alone, how often and how surely "
        "each token follows, as if no two shared a context; where it is the curve, the curve says "
        f"nothing of what contexts share. {found.ngrams[0].num_tokens:,} tokens of the text."
    )


def _laws(found: Reproduction) -> Iterator[Any]:
    laws = found.laws
    fits = {
        "paper's law, its small models": [laws.published],
        "fitted on those small models": laws.pythia,
        "ours": laws.family,
        "ours, A / N^alpha alone": laws.power,
        "on the table of --losses": laws.given,
    }
    yield table(
        "Scaling laws L = A / N^alpha + B / T^beta + E",
        (_law(name, fit) for name, several in fits.items() for fit in several),
        [(name, "") for name in ("", "N counts", "A", "alpha", "residual", "others' gap")],
    )
    small = [row.gap_percent for row in laws.published.rows if row.name != LARGEST]
    says = found.published.one(row="final checkpoints", table="section 3")
    yield paragraph(
        f"The paper says that its small models end {says.printed} % above its law; the losses read "
        f"off its figure, those below 410M, do so by {statistics.fmean(small):.1f} %. residual: "
        "root mean square of the fitted rows, nats; others' gap: of the rows that were not fitted, "
        "for ours the final losses."
    )
    if laws.refused:
        yield paragraph(f"Ours with the frozen B, beta and E: no fit. {laws.refused}")


def _law(name: str, fit: ScalingFit) -> Line:
    residual, gap = fit.rms_residual, fit.mean_gap_percent
    cells = [name, fit.counted.replace("_", "-"), f"{fit.law.A:.4g}", f"{fit.law.alpha:.3f}"]
    cells.append("" if residual is None else f"{residual:.3f}")
    return Line([*cells, "" if gap is None else f"{gap:+.1f} %"], beside=False)


def _compared(found: Reproduction) -> Iterator[Any]:
    """Of the W-errors only the first of each text; JSON has all."""
    numbers: Sequence[Any] = found.compared  # of which each stands beside a `PublishedResult`,
    claims: Sequence[Any] = found.claims  # and these beside a `PublishedClaim`
    rows = [
        one
        for one in numbers
        if one.figure is not None
        and (not one.published.row.startswith("d = ") or one.published.row == "d = 1000")
    ]
    yield table("Numbers of the paper that have a counterpart", rows, COMPARED)
    yield Heading("Statements of the paper", level=3)
    yield line("Statements of the paper", style="bold")
    for one in claims:
        says = f"{one.published.table}{MARKS[one.published.status]}: {one.published.says}"
        yield paragraph(f"{says}.")
        yield note(f"Here: {one.ours}: {one.words}.", css="ours", face=BOTH)


def opening(found: Reproduction) -> str:
    """Text, sizes and length of the runs."""
    first = found.family[0]
    seeds = len({run.seed for run in found.family})
    return (
        f"Text: {found.data}; {found.counts['train']:,} training tokens, {found.counts['valid']:,} "
        f"held out, V = {found.counts['vocab_size']:,}. Each model of the family: "
        f"{first.tokens:,} tokens, {first.epochs:.1f} passes. Each head: "
        f"{found.heads[0].tokens:,} tokens. "
        f"{f'{seeds} seeds, mean and standard deviation' if seeds > 1 else 'one seed'}. The "
        f"paper's, dim: {found.published.paper}, {found.published.url}."
    )


def _reading(found: Reproduction) -> Iterable[str]:
    yield (
        "best: where the held-out loss is lowest; rise: final less that. Where the training loss "
        "falls while the held-out loss rises, a small text is learned by heart; the paper's "
        "models rise on a text that they see once, and nothing here tests that."
    )
    yield (
        "KL has the ceiling log d. centred: with the mean row, which a softmax does not see, taken "
        "off; mean row: its share of the largest squared singular value. All of this describes an "
        "output layer; it says nothing about a cause."
    )
    seconds = sum(run.seconds for run in (*found.family, *found.heads))
    mean = statistics.fmean(run.tokens_per_second for run in found.family)
    yield (
        f"{len(found.family)} models and {len(found.heads)} heads, {seconds:,.0f} s of training, "
        f"with {mean:,.0f} tokens a second on average for a model of the family."
    )


def _half(estimate: Estimate) -> str:
    return "" if estimate.high is None else f"{estimate.high - estimate.value:.3f}"


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]
