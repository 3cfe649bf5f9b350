"""The reproduction in the terminal: heads over seeds, the papers' lines beside, in 80 columns."""

import math
from collections.abc import Iterable

from rich.console import Console

from wideneck.papers.paired import Paired
from wideneck.papers.printing import numbers_table, print_table, say
from wideneck.papers.sigsoftmax.beside import DATA, beside, of_data, recalled, sign
from wideneck.papers.sigsoftmax.known_rank.table import show as show_known_rank
from wideneck.papers.sigsoftmax.reproduction import Reproduction
from wideneck.papers.sigsoftmax.settings import MATCHED
from wideneck.papers.spread import Spread, cell, spread
from wideneck.papers.verdict import RECALLED, published_cell


def show(found: Reproduction, console: Console) -> None:
    """Print the tables and how to read them."""
    say(_opening(found), console)
    _perplexities(found, console)
    _against_softmax(found, console)
    _ranks(found, console)
    for data in of_data(found):
        _published(found, data, console)
        _recalled(found, data, console)
    show_known_rank(found.known_rank, console)
    for line in _reading(found):
        say(line, console)


def _perplexities(found: Reproduction, console: Console) -> None:
    table = numbers_table(["parameters", "validation", "test", "training", "tokens/s"])
    digits = 2 if found.settings["scale"] == "paper" else 1
    for arm in found.arms:
        runs = [run for run in found.runs if run.arm == arm.name]
        table.add_row(
            arm.name,
            f"{arm.figures['num_parameters'].mean:,.0f}",
            cell(spread([_exp(run.valid_loss) for run in runs]), digits),
            cell(arm.figures["test_perplexity"], digits),
            f"{_exp(arm.figures['train_loss'].mean):,.1f}",
            f"{arm.figures['tokens_per_second'].mean:,.0f}",
        )
    print_table("Perplexity, mean and standard deviation over seeds", table, console)


def _against_softmax(found: Reproduction, console: Console) -> None:
    data = [found.data] if found.data in DATA else []  # another text's sign says nothing
    table = numbers_table(
        ["nats a token", "95 % interval", "seeds", *(f"{d}'s sign" for d in data)]
    )
    for arm in found.arms:
        ours = arm.against_softmax
        if ours is None:
            continue
        table.add_row(
            arm.name,
            cell(Spread(mean=ours.mean, std=ours.std), 4, sign=True),
            _interval(ours),
            _seeds(ours),
            *(sign(found, arm, d) for d in data),
        )
    print_table("Test loss minus that of the softmax, seed by seed", table, console)


def _ranks(found: Reproduction, console: Console) -> None:
    table = numbers_table(["bound", "Press", "1e-3", "1e-4", "1e-5", "mean z", "|z| < 5, %"])
    for arm in found.arms:
        figures = arm.figures
        bound = next(run.rank_bound for run in found.runs if run.arm == arm.name)
        table.add_row(
            arm.name,
            f"{bound:,}",
            *(
                cell(figures[name], 0)
                for name in ("rank", "effective_1e3", "effective_1e4", "effective_1e5")
            ),
            f"{figures['mean_logit'].mean:.1f}",
            f"{100 * figures['share_curved'].mean:.0f}",
        )
    print_table("Ranks of the matrix of log-probabilities, and the scores", table, console)


def _published(found: Reproduction, data: str, console: Console) -> None:
    shown = [
        (one, measure, digits)
        for measure, figure, digits in (
            ("test perplexity", "test_perplexity", 2),
            ("rank", "rank", 0),
        )
        for one in beside(found, data, measure, figure)
    ]
    words = {one.words for one, _, _ in shown}
    common = len(words) == 1  # one sentence for the whole table, where it is the same everywhere
    table = numbers_table(["published", "ours", "gap", *([] if common else ["verdict"])])
    for one, measure, digits in shown:
        table.add_row(
            f"{one.arm}, {measure}",
            published_cell(one.published),
            "" if one.ours is None else cell(one.ours, digits),
            "" if one.gap is None else f"{one.gap:+,.{digits}f}",
            *([] if common else [one.words]),
        )
    title = f"{data}: Parthiban, Mao & Inkpen, AAAI 2021, Table 2 (11 seeds), and ours"
    print_table(f"{title}; {words.pop()}" if common else title, table, console)


def _recalled(found: Reproduction, data: str, console: Console) -> None:
    rows = recalled(found, data)
    measures = list(dict.fromkeys(measure for row in rows.values() for measure in row))
    table = numbers_table(measures)
    for name, row in rows.items():
        table.add_row(name, *(row[m].printed if m in row else "" for m in measures), style="dim")
    title = f"{data}: {found.published.paper}, {RECALLED}: shown, never compared"
    print_table(title, table, console)


def _opening(found: Reproduction) -> str:
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


def _seeds(ours: Paired) -> str:
    return "" if ours.seeds_to_see is None else f"{ours.seeds_to_see:,}"


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))
