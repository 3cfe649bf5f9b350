"""An evaluation in the terminal: perplexities beside each other, and what they depend on."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wideneck.audits.output.head_ranks import LogProbRanks
from wideneck.evaluation.perplexity import Perplexity
from wideneck.evaluation.results import Evaluation
from wideneck.report.console import say
from wideneck.report.numbers import basis, estimate, number, share

LABEL = 34


def show(found: Evaluation, console: Console) -> None:
    """Print the losses, how they were measured, and the ranks."""
    source = found.source
    say(source.model, console, "bold")
    part = "" if source.split is None else f", {source.split} split"
    say(
        f"{source.head} head, {source.num_parameters:,} parameters; text: {source.text}{part}",
        console,
    )
    console.print()
    _losses(found, console)
    for line in _conventions(found):
        say(line, console)
    if found.ranks is not None:
        console.print()
        _ranks(found.ranks, console)
    console.print()
    for note in source.notes:
        say(f"Note: {note}", console)
    say(
        f"{source.device}, {source.dtype}, text {source.text_sha256[:12]}, "
        f"{sum(source.seconds.values()):,.0f} s",
        console,
        "dim",
    )


def _losses(found: Evaluation, console: Console) -> None:
    table = _table("", "perplexity", "nats/token", "bits/byte")
    _loss(table, "the model", found.plain)
    if found.neural_cache is not None:
        _loss(table, "with a neural cache", found.neural_cache.perplexity)
    if found.dynamic is not None:
        _loss(table, "with dynamic evaluation", found.dynamic.perplexity)
    console.print(table)
    console.print()


def _loss(table: Table, label: str, found: Perplexity) -> None:
    per_byte = "" if found.bits_per_byte is None else f"{found.bits_per_byte:.4f}"
    table.add_row(Text(label), f"{found.perplexity:,.2f}", f"{found.loss:.4f}", per_byte)


def _conventions(found: Evaluation) -> list[str]:
    lines = [f"{found.plain.num_tokens:,} predictions: {found.plain.conventions}."]
    if found.over_documents is not None:
        over = found.over_documents
        lines.append(
            f"Perplexity {estimate(over.perplexity)}, nats {estimate(over.loss)}, bits a byte "
            f"{estimate(over.bits_per_byte)}; {basis(over.loss)}."
        )
    if found.neural_cache is not None:
        cache = found.neural_cache
        lines.append(
            f"Neural cache: the last {cache.size:,} positions; theta {cache.theta:g} and weight "
            f"{cache.weight:g} fitted on the validation split, {cache.valid_loss_without:.4f} to "
            f"{cache.valid_loss:.4f} nats there."
        )
    if found.dynamic is not None:
        dynamic = found.dynamic
        lines.append(
            f"Dynamic evaluation: RMS with decay, {dynamic.scaling} scaling, learning rate "
            f"{dynamic.learning_rate:g}, decay {dynamic.decay:g}, epsilon {dynamic.epsilon:g}, "
            f"statistics from {dynamic.num_batches:,} batches of the training split; 1 row, "
            f"{dynamic.perplexity.num_tokens:,} predictions."
        )
    return lines


def _ranks(found: LogProbRanks, console: Console) -> None:
    title = f"rank of {found.num_contexts:,} x {found.vocab_size:,} log-probabilities"
    table = _table(title, "", "beside")
    relative = found.press_tolerance / found.singular_values[0]
    rows = [
        ("Press tolerance, epsilon of float32", number(found.press), f"at most {found.bound:,}"),
        ("the same, rows centred", number(found.press_centred), f"both: s > {relative:.2e} s_0"),
        ("effective, 1 - 1e-3 of s^2", number(found.effective_1e3), ""),
        ("effective, 1 - 1e-4", number(found.effective_1e4), ""),
        ("effective, 1 - 1e-5", number(found.effective_1e5), ""),
        (
            "scores z before the activation",
            number(found.mean_logit),
            f"sd {number(found.sd_logit)}",
        ),
        ("share of them with |z| < 5", share(found.share_curved), "where a sigsoftmax bends"),
    ]
    for label, value, beside in rows:
        table.add_row(Text(label), value, Text(beside))
    console.print(table)


def _table(*names: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1, 0, 0)
    )
    for place, name in enumerate(names):
        table.add_column(
            name,
            justify="left" if place == 0 or name == "beside" else "right",
            min_width=LABEL if place == 0 else None,
            overflow="fold",
        )
    return table
