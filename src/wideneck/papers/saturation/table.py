"""The reproduction in the terminal: ours over seeds, the paper's beside, in 80 columns."""

import statistics
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wideneck.audits.estimate import Estimate
from wideneck.papers.printing import numbers_table, print_table, say
from wideneck.papers.published import Published
from wideneck.papers.saturation.arms import Arm
from wideneck.papers.saturation.reproduction import Reproduction
from wideneck.papers.saturation.scaling import ScalingFit
from wideneck.papers.spread import Spread, cell
from wideneck.papers.verdict import MARKS, published_cell
from wideneck.report.numbers import basis

FIGURE_6 = ("Pythia-410M", "Pythia-1B", "Llama-7B")
LARGEST = "Pythia-410M"
"""The one of those read off that the paper fits its law on."""
DIMENSIONS = (100, 1000)
"""The d at which the table tells the W-error of n-grams; JSON has more."""
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def show(found: Reproduction, console: Console) -> None:
    """Print the tables and how to read them."""
    say(_opening(found), console)
    _losses(found, console)
    _geometry(found, console)
    _heads(found, console)
    _figure_6(found.published, console)
    _ngrams(found, console)
    _laws(found, console)
    _compared(found, console)
    _claims(found, console)
    for line in _reading(found):
        say(line, console)


def _losses(found: Reproduction, console: Console) -> None:
    table = numbers_table(
        ["parameters", "best", "at step", "its train", "final", "its train", "rise"], gap=0
    )
    for width in found.widths:
        figures = width.figures
        table.add_row(
            f"d = {width.width}",
            f"{width.num_parameters:,}",
            _cell(figures["best_loss"], 3),
            f"{figures['best_step'].mean:,.0f}",
            f"{figures['best_train_loss'].mean:.3f}",
            _cell(figures["final_loss"], 3),
            f"{figures['final_train_loss'].mean:.3f}",
            f"{width.rise.mean:.3f}",
        )
    print_table("The family: held-out and training loss, nats a token", table, console)


def _geometry(found: Reproduction, console: Console) -> None:
    names = [
        "KL lowest",
        "at step",
        "KL final",
        "/ log d",
        "centred",
        "s1/s0",
        "mean row",
        "aniso.",
    ]
    table = numbers_table(names, gap=0)
    for width in found.widths:
        figures = width.figures
        table.add_row(
            f"d = {width.width}",
            f"{figures['kl_sigma2_lowest'].mean:.3f}",
            f"{figures['kl_sigma2_lowest_step'].mean:,.0f}",
            _cell(figures["kl_sigma2"], 2),
            *(
                f"{figures[name].mean:.2f}"
                for name in (
                    "kl_sigma2_share",
                    "kl_sigma2_centred",
                    "second_value",
                    "mean_row_share",
                    "anisotropy",
                )
            ),
        )
    for name, lowest, step, last, ratio in _figure_5(found.published):
        table.add_row(f"  paper, {name}", lowest, step, last, "", "", ratio, "", "", style="dim")
    print_table(
        "Output layer (singular entropy of squared values, nats) and held-out states",
        table,
        console,
    )


def _figure_5(published: Published) -> Iterable[tuple[str, ...]]:
    for row in published.find(table="Figure 5", data="output layer"):
        if row.measure != "final singular entropy, nats":
            continue
        at = {r.measure: r.printed for r in published.find(row=row.row, table="Figure 5")}
        ratio = published.find(row=row.row, table="Figure 4")
        yield (
            row.row.removeprefix("Pythia-"),
            at.get("lowest singular entropy, nats", ""),
            at.get("step of the lowest", ""),
            row.printed,
            ratio[0].printed if ratio else "",
        )


def _heads(found: Reproduction, console: Console) -> None:
    names = [
        "r/d",
        "W-err",
        "cent.",
        "cut",
        "foreseen",
        "plain",
        "trained",
        f"{PLUS_MINUS}",
        "to r=d",
        f"{PLUS_MINUS}",
    ]
    table = numbers_table([*names, "slope"], gap=0)
    for arm in found.arms:
        white, plain = arm.whitened, arm.plain
        table.add_row(
            _arm_name(arm),
            f"{arm.share:.2f}",
            f"{arm.w_error:.2f}",
            f"{arm.w_error_centred:.2f}",
            f"{arm.first_gap.value:+.3f}",
            "" if white is None else f"{white.predicted:+.3f}",
            "" if plain is None else f"{plain.measured.value:+.2f}",
            f"{arm.trained_gap.value:+.3f}",
            _half(arm.trained_gap),
            f"{arm.full_gap.value:+.3f}",
            _half(arm.full_gap),
            f"{arm.slope:+.3f}",
        )
    print_table(
        f"Heads of rank r on frozen states of {_short(found.truncated.model)}", table, console
    )
    untouched, chosen = found.arms[-1].first, ""
    if found.settings["scale"] == "small":
        chosen = " The rates, a power of r, were chosen on seed 0, which is here, and flatter it."
    say(
        "W-err: W-error(r) of the model's own output layer; cent.: the same without its mean row, "
        "which a softmax does not see. "
        f"Nats a token; the untouched output layer's loss is {untouched.value:.3f}. cut: whitened "
        "truncation less the untouched; foreseen: the audit's second-order prediction of it; "
        "plain: the plain truncation; trained: after training, less the untouched; to r=d: less "
        f"the trained softmax. {PLUS_MINUS}: half the width, {basis(untouched)}. "
        f"slope: change over the last 10 % of the steps.{chosen}",
        console,
    )


def _figure_6(published: Published, console: Console) -> None:
    table = numbers_table(["r/d", *FIGURE_6], gap=0)
    found: dict[float, dict[str, float]] = {}
    for model in FIGURE_6:
        rows = published.find(table="Figure 6", data=model, measure="loss, nats")
        ranks = {int(row.row.split()[2]): row.value for row in rows}
        full = max(ranks)
        for rank, loss in ranks.items():
            found.setdefault(rank / full, {})[model] = loss - ranks[full]
    for share, gaps in sorted(found.items()):
        if share == 1 or share < 1 / 64:
            continue
        cells = (f"{gaps[model]:+.3f}" if model in gaps else "" for model in FIGURE_6)
        table.add_row("", f"{share:.3f}", *cells, style="dim")
    print_table(
        f"The paper's Figure 6: loss less that of r = d, nats{MARKS['figure']}", table, console
    )
    say(
        "Another experiment: there both factors start at random and see 150M tokens; here they "
        "start from the model's own output layer and see few.",
        console,
    )


def _ngrams(found: Reproduction, console: Console) -> None:
    names = ["contexts", "once", "one-hot", "half", "null"]
    names += [text for d in DIMENSIONS for text in (f"W({d})", "null")]
    table = numbers_table(names, gap=0)
    for one in found.ngrams:
        for n in one.orders:
            at = {e.d: e for e in n.unweighted.errors}
            errors = [
                "" if x is None else f"{x:.3f}"
                for d in DIMENSIONS
                if d in at
                for x in (at[d].w_error, at[d].w_error_null)
            ]
            half = n.unweighted.half
            table.add_row(
                f"{_short(one.tokens)[:8]}, n = {n.order}",
                f"{n.num_contexts:,}",
                f"{100 * n.seen_once_share:.0f} %",
                f"{100 * n.one_hot_share:.0f} %",
                "" if half is None else str(half),
                str(n.unweighted.half_null),
                *errors,
            )
    print_table(
        "n-grams: W-error(d), each context once, beside the diagonal's null", table, console
    )
    say(
        "once: contexts that occur once; one-hot: that one token alone follows; half: the smallest "
        "d with W-error <= 1/2. null: from the diagonal of W^T W alone, how often and how surely "
        "each token follows, as if no two shared a context; where it is the curve, the curve says "
        f"nothing of what contexts share. {found.ngrams[0].num_tokens:,} tokens of the text.",
        console,
    )


def _laws(found: Reproduction, console: Console) -> None:
    table = numbers_table(["N counts", "A", "alpha", "residual", "others' gap"], gap=0)
    laws = found.laws
    _law(table, "paper's law, its small models", laws.published)
    for fit in laws.pythia:
        _law(table, "fitted on those small models", fit)
    for fit in laws.family:
        _law(table, "ours", fit)
    for fit in laws.power:
        _law(table, "ours, A / N^alpha alone", fit)
    print_table("Scaling laws L = A / N^alpha + B / T^beta + E", table, console)
    small = [row.gap_percent for row in laws.published.rows if row.name != LARGEST]
    says = found.published.one(row="final checkpoints", table="section 3")
    say(
        f"The paper says that its small models end {says.printed} % above its law; the losses read "
        f"off its figure, those below 410M, do so by {statistics.fmean(small):.1f} %. residual: "
        "root mean square of the fitted rows, nats; others' gap: of the rows that were not fitted, "
        "for ours the final losses.",
        console,
    )
    if laws.refused:
        say(f"Ours with the frozen B, beta and E: no fit. {laws.refused}", console)


def _law(table: Table, name: str, fit: ScalingFit) -> None:
    residual, gap = fit.rms_residual, fit.mean_gap_percent
    table.add_row(
        name,
        fit.counted.replace("_", "-"),
        f"{fit.law.A:.4g}",
        f"{fit.law.alpha:.3f}",
        "" if residual is None else f"{residual:.3f}",
        "" if gap is None else f"{gap:+.1f} %",
    )


def _compared(found: Reproduction, console: Console) -> None:
    """Of the W-errors only the first of each text; JSON has all."""
    table = numbers_table(["published", "ours", "verdict"], gap=0)
    table.columns[0].no_wrap = False
    for one in found.compared:
        row = one.published
        if one.ours is None or (row.row.startswith("d = ") and row.row != "d = 1000"):
            continue
        table.add_row(
            f"{row.table}, {row.data}: {row.measure}, {row.row}",
            published_cell(row).replace(MARKS["figure"], " (figure)"),
            f"{one.ours.mean:.3g}",
            one.verdict.words.split(":")[0],
        )
    print_table("Numbers of the paper that have a counterpart", table, console)


def _claims(found: Reproduction, console: Console) -> None:
    console.print(Text("Statements of the paper", style="bold"))
    for one in found.claims:
        mark = MARKS[one.claim.status]
        say(
            f"{one.claim.table}{mark}: {one.claim.says}.\n  Here: {one.ours}: {one.verdict}.",
            console,
        )


def _opening(found: Reproduction) -> str:
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


def _arm_name(arm: Arm) -> str:
    names = {"own": "softmax", "whitened": f"r = {arm.rank}", "random": f"random {arm.rank}"}
    return names[arm.start]


def _half(estimate: Estimate) -> str:
    return "" if estimate.high is None else f"{estimate.high - estimate.value:.3f}"


def _cell(spread: Spread, digits: int) -> str:
    """Mean and deviation, without the spaces: columns are narrow."""
    return cell(spread, digits).replace(" ", "")


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]
