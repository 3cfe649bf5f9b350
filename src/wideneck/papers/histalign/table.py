"""The reproduction in the terminal: ours over seeds, the paper's lines below, in 80 columns."""

import statistics
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from wideneck.papers.histalign.objectives import OBJECTIVES
from wideneck.papers.histalign.reproduction import Reproduction
from wideneck.papers.histalign.results import PRINTED, Summary
from wideneck.papers.printing import numbers_table, print_table, say
from wideneck.papers.spread import Spread, cell

VIEWS = {
    "full": "Acc@k, %: full, the mixture of model and memory",
    "model": "Acc@k, %: model-only, the output layer without the memory",
    "cache": "Acc@k, %: cache-only, the memory without the output layer",
}
PUBLISHED_VIEWS = ("full", "cache")
MODELS = ("GPT2-small", "GPT2-large")
"""Of the paper's table."""


def show(found: Reproduction, console: Console) -> None:
    """Print the accuracies, the other measures, the gaps and how to read them."""
    say(_opening(found), console)
    for view, title in VIEWS.items():
        _accuracies(found, view, title, console)
    _measures(found, console)
    _gaps(found, console)
    for line in _reading(found):
        say(line, console)


def _accuracies(found: Reproduction, view: str, title: str, console: Console) -> None:
    table = numbers_table([f"@{k}" for k in PRINTED])
    for summary in found.summaries:
        objective = OBJECTIVES[summary.objective]
        cells = [cell(summary.figures[f"{view}.{k}"]) for k in PRINTED]
        table.add_row(_title(summary), *cells)
        if objective.method is None or view not in PUBLISHED_VIEWS:
            continue
        for model in MODELS:
            row = found.published.row(model, objective.method)
            numbers = [f"{getattr(row, view)[k]:.2f}" for k in PRINTED]
            table.add_row(_published(model), *numbers, style="dim")
    print_table(title, table, console)


def _measures(found: Reproduction, console: Console) -> None:
    table = numbers_table(["share, %", "loss", "model's", "rank", "model's"])
    for summary in found.summaries:
        objective, figures = OBJECTIVES[summary.objective], summary.figures
        part = figures["memory_share"]
        percent = Spread(mean=100 * part.mean, std=None if part.std is None else 100 * part.std)
        table.add_row(
            _title(summary),
            cell(percent),
            cell(figures["loss"], 2),
            cell(figures["loss_model"], 2),
            cell(figures["rank"], 0),
            f"{figures['rank_model'].mean:.0f}",
        )
        if objective.method is None:
            continue
        for model in MODELS:
            rank = found.published.row(model, objective.method).rank
            table.add_row(_published(model), "", "", "", str(rank), "", style="dim")
    print_table("Memory's share of the probability; loss in nats; rank", table, console)


def _gaps(found: Reproduction, console: Console) -> None:
    ks = PRINTED[:2]
    names = [f"{view}@{k}" for view in PUBLISHED_VIEWS for k in ks]
    table = numbers_table(names)
    for one in found.gaps:
        figures = [one.figures[f"{view}.{k}"] for view in PUBLISHED_VIEWS for k in ks]
        title = f"over {OBJECTIVES[one.over].title}"
        table.add_row(Text(title), *(cell(figure, sign=True) for figure in figures))
        if OBJECTIVES[one.objective].method is None:
            continue
        for model in MODELS:
            more, less = (found.published.row(model, m) for m in ("HistAlign", "TRIME"))
            numbers = [
                f"{getattr(more, view)[k] - getattr(less, view)[k]:+.2f}"
                for view in PUBLISHED_VIEWS
                for k in ks
            ]
            table.add_row(_published(model), *numbers, style="dim")
    print_table("What the ranking loss of HistAlign adds, points", table, console)


def _opening(found: Reproduction) -> str:
    settings, first = found.settings, found.runs[0]
    recipe, shape = settings["recipe"], settings["recipe"]["shape"]
    seeds = sorted({run.seed for run in found.runs})
    model = f"{settings['model']}, fine-tuned"
    if shape is not None:
        model = (
            f"a GPT-2 from scratch ({shape['num_layers']} layers, d = {shape['hidden_size']}, "
            f"V = {first.vocab_size} whole words)"
        )
    return (
        f"Ambiguous Template, {settings['split']} split. Ours: {model}; {first.num_steps:,} steps "
        f"of {recipe['batch_size']} rows; {first.num_prompts:,} distinct test prompts; "
        f"{f'{len(seeds)} seeds, mean and standard deviation' if len(seeds) > 1 else 'one seed'}. "
        "The paper's, dim: "
        f"{found.published.where}, {found.published.url}."
    )


def _reading(found: Reproduction) -> Iterable[str]:
    first = found.runs[0]
    seconds = statistics.fmean(run.seconds for run in found.runs)
    cpu = statistics.fmean(run.cpu_seconds for run in found.runs)
    yield (
        "Correct at k: both words of the prompt are among the k best. TRIME as released takes the "
        "memory's tokens from the labels, where the prompt has none; corrected, from the input."
    )
    yield (
        "The ranking loss is as released for GPT-2: the second half of Equation 5 was not at hand "
        "and is DERIVED, by us, from that code."
    )
    yield (
        "The paper's full of its fine-tuned rows goes with ours of the output layer alone, as far "
        "as the ranks tell: 762 and 1280, where a model without memory allows 769 and 1281."
    )
    yield (
        f"Loss: of each of the two words, ln 2 = 0.69 at the least. Rank: of {first.rank_rows:,} x "
        f"{first.vocab_size:,} log-probabilities; the output layer alone allows "
        f"{first.rank_bound}, the mixture one more for each token that stands in a memory. The "
        f"paper names no tolerance. {len(found.runs)} runs, on average {seconds:,.0f} s on the "
        f"clock and {cpu:,.0f} s of processor time."
    )


def _title(summary: Summary) -> Text:
    return Text(OBJECTIVES[summary.objective].title)


def _published(model: str) -> Text:
    return Text(f"  paper, {model}")
