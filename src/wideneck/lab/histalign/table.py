"""The reproduction on a page and in 80 columns: ours over seeds, the paper's lines below."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.histalign.reproduction import Reproduction
from wideneck.lab.histalign.results import PRINTED, Gap, Summary
from wideneck.lab.spread import cell
from wideneck.lab.tables import Columns, Line, table
from wideneck.report.parts import Heading, paragraph
from wideneck.report.reference import Reference

VIEWS = {
    "full": "Acc@k, %: full, the mixture of model and memory",
    "model": "Acc@k, %: model-only, the output layer without the memory",
    "cache": "Acc@k, %: cache-only, the memory without the output layer",
}
PUBLISHED_VIEWS = ("full", "cache")
MODELS = ("GPT2-small", "GPT2-large")
"""Of the paper's table."""
NAME = ("", lambda row: OBJECTIVES[row.objective].title)
OVER = ("", lambda gap: f"over {OBJECTIVES[gap.over].title}")
MEASURES: Columns = (
    NAME,
    ("share, %", lambda row: cell(row.figures["memory_share"].times(100)), "figures"),
    ("loss", "{loss:.2f ± }"),
    ("model's", "{loss_model:.2f ± }"),
    ("rank", "{rank:.0f ± }"),
    ("model's", "{rank_model:.0f}"),
)
GAPS = [f"{view}.{k}" for view in PUBLISHED_VIEWS for k in PRINTED[:2]]


def sections(found: Reproduction, reference: Reference) -> Iterable[Sequence[Any]]:
    """The accuracies, the other measures, the gaps and how to read them."""
    ours = found.summaries
    yield [
        Heading("Accuracy", "accuracy", "Accuracy"),
        *(
            table(
                title,
                _lined(found, ours, [f"{view}.{k}" for k in PRINTED], _printed)
                if view in PUBLISHED_VIEWS
                else ours,
                [NAME, *((f"@{k}", f"{{{view}.{k}:.1f ± }}") for k in PRINTED)],
                "summaries[]",
                reference,
            )
            for view, title in VIEWS.items()
        ),
    ]
    yield [
        Heading("Loss and rank", "loss", "Loss and rank"),
        table(
            "Memory's share of the probability; loss in nats; rank",
            _lined(found, ours, ["", "", "", "rank", ""], _printed),
            MEASURES,
            "summaries[]",
            reference,
        ),
    ]
    yield [
        Heading("What the ranking loss adds", "gaps", "What it adds"),
        table(
            "What the ranking loss of HistAlign adds, points",
            _lined(found, found.gaps, GAPS, _difference),
            [OVER, *((gap.replace(".", "@"), f"{{{gap}:+.1f ± }}") for gap in GAPS)],
            "gaps[]",
            reference,
        ),
    ]
    yield [Heading("How to read it", "reading", "Reading"), *map(paragraph, _reading(found))]


def _lined(
    found: Reproduction,
    ours: Sequence[Summary | Gap],
    measures: Sequence[str],
    cell: Callable[[Reproduction, str, str, str], str],
) -> Iterable[Any]:
    """Each of ours, and below it what the paper has of its method for two models."""
    for one in ours:
        yield one
        method = OBJECTIVES[one.objective].method
        if method is not None:
            for model in MODELS:
                cells = (m and cell(found, model, method, m) for m in measures)
                yield Line([f"  paper, {model}", *cells])


def _printed(found: Reproduction, model: str, method: str, measure: str) -> str:
    return found.published.one(data=model, row=method, measure=measure).printed


def _difference(found: Reproduction, model: str, method: str, measure: str) -> str:
    """Of the paper's method to what it adds to."""
    more, less = (
        found.published.one(data=model, row=row, measure=measure).value for row in (method, "TRIME")
    )
    return f"{more - less:+.2f}"


def opening(found: Reproduction) -> str:
    """Split, model and training."""
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
        f"{found.published.results[0].table}, {found.published.url}."
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
