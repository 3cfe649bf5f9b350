"""A report in the terminal: the most telling numbers, each beside what it is read against.

Plain text without markup: token strings come from strangers' files, so what does not print is
spelt out, and what the terminal cannot encode as well.
"""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.head import HeadAudit
from wideneck.audits.memory.results import MemoryAudit
from wideneck.audits.token import TokenRef
from wideneck.files.printable import printable
from wideneck.report.attention_figures import attention_figures
from wideneck.report.console import encodable, say
from wideneck.report.figures import (
    Figure,
    head_figures,
    output_figures,
    token_figures,
)
from wideneck.report.memory_figures import memory_figures
from wideneck.report.memory_tables import cache_name, fitted_number
from wideneck.report.numbers import basis, interval, number, share, value, visible
from wideneck.report.provenance import Provenance
from wideneck.report.report import Report
from wideneck.report.series import SeriesReport
from wideneck.report.summary import paragraphs, series_paragraphs
from wideneck.report.tokens import Group, TokenList, token_lists

SHOWN = 12
"""Groups of tokens that one list shows here; the HTML file shows more, the JSON file all."""

LABEL, VALUE, DETAIL, BESIDE = 28, 10, 16, 23
COLUMNS = LABEL + VALUE + DETAIL + BESIDE + 3


def show(report: Report, console: Console) -> None:
    """Print the summary, the main numbers and the short lists."""
    _opening(report.provenance.model, paragraphs(report), console)
    if report.head is not None:
        _print_figures("head", head_figures(report.head), console)
        _print_figures("tokens", token_figures(report.head), console)
        _print_notes(report.head.notes, console)
    if report.output is not None:
        _print_figures("output", output_figures(report.output), console)
        if report.output.rank_cost.skipped:
            say(f"Not measured: {report.output.rank_cost.skipped}.", console)
        _print_notes(report.output.notes, console)
    if report.attention is not None:
        _print_figures("attention", attention_figures(report.attention), console)
        say(
            "Median: over heads; a to b: between which half of the heads lie; "
            f"in brackets: {basis(report.attention.loss)}.",
            console,
        )
        console.print()
        _print_comparison(report.attention, console)
        _print_notes(report.attention.notes, console)
    if report.memory is not None:
        _print_figures("memory", memory_figures(report.memory), console)
        say(f"In brackets: {basis(report.memory.recurrence.share)}.", console)
        console.print()
        _print_caches(report.memory, console)
        _print_notes(report.memory.notes, console)
    if report.head is not None:
        if report.head.argmaxable is not None and report.head.argmaxable.unargmaxable:
            unreachable = report.head.argmaxable.unargmaxable
            _print_tokens(
                "never the most probable", [Group.of([t]) for t in unreachable], 0, console
            )
        for tokens in token_lists(report.head):
            _print_list(tokens, console)
    _closing(report.provenance, console)


def show_series(report: SeriesReport, console: Console) -> None:
    """Print one row a checkpoint, and first of all heads that are identical."""
    _opening(report.provenance.model, series_paragraphs(report), console)
    for group in report.identical:
        console.print(
            Text("Identical heads: ", style="bold yellow").append(
                _encodable(" = ".join(group), console), style="default"
            ),
            soft_wrap=False,
            overflow="fold",
        )
    if report.identical:
        say("A trajectory through identical heads is not one of training.", console)
        console.print()
    null = report.points[-1].head.spectrum.null
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in ("step", "head", "entropy\nraw", "\ncentred", "eff. rank\ncentred"):
        table.add_column(name, justify="right", overflow="fold")
    searched = any(point.head.argmaxable is not None for point in report.points)
    for name in ("mean row\nof s_0^2", "median\nnorm", *(["never\nfirst"] if searched else [])):
        table.add_column(name, justify="right", overflow="fold")
    for point in report.points:
        spectrum = point.head.spectrum
        table.add_row(
            f"{point.step:,}",
            point.head.sha256[:8],
            number(spectrum.raw.kl_sigma2),
            number(spectrum.centred.kl_sigma2),
            number(spectrum.centred.effective_rank),
            share(point.head.mean_row_share),
            number(point.head.row_norms.median),
            *([_unreachable(point.head)] if searched else []),
        )
    table.add_section()
    table.add_row(
        "Gaussian",
        "",
        number(null.kl_sigma2),
        number(null.kl_sigma2),
        number(null.effective_rank),
        share(null.stable_rank / report.points[-1].head.vocab_size),
        "",
        style="dim",
    )
    console.print(table)
    for point in report.points:
        _print_notes([f"Step {point.step:,}: {note}" for note in point.head.notes], console)
    _closing(report.provenance, console)


def _unreachable(head: HeadAudit) -> str:
    return number(None if head.argmaxable is None else len(head.argmaxable.unargmaxable))


def _opening(title: str, texts: Sequence[str], console: Console) -> None:
    say(title, console, "bold")
    for text in texts:
        say(text, console)
    console.print()


def _print_figures(title: str, figures: Iterable[Figure], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=0)
    # Fixed widths, so that the tables of a report stand under each other; where the terminal is
    # narrower, whatever folds into it.
    for name, columns, justify in (
        (title, LABEL, "left"),
        ("value", VALUE, "right"),
        ("", DETAIL, "left"),
        ("beside", BESIDE, "left"),
    ):
        width = columns if console.width >= COLUMNS else None
        table.add_column(name, justify=justify, width=width, overflow="fold")
    for figure in figures:
        beside = ", ".join(figure.baselines)
        if len(beside) > BESIDE:
            beside = ",\n".join(figure.baselines)
        table.add_row(
            Text(figure.label), Text(figure.value, style="bold"), Text(figure.detail), Text(beside)
        )
    console.print(table)
    console.print()


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        say(note, console)
    if notes:
        console.print()


def _print_comparison(audit: AttentionAudit, console: Console) -> None:
    if not audit.comparison:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=0)
    table.add_column("normalizer", overflow="fold")
    for name in ("loss", "change", "keys", "zeros", "sum", "N_s/N", "Jacobian"):
        table.add_column(name, justify="right", overflow="fold")
    for point in audit.comparison:
        table.add_row(
            Text(_encodable(point.normalizer, console)),
            value(point.loss),
            "\n".join(filter(None, (value(point.change), interval(point.change)))),
            number(float(point.effective_keys)),
            share(point.zeros),
            number(float(point.row_sum)),
            number(float(point.separability)),
            "" if point.jacobian_spectral is None else number(float(point.jacobian_spectral)),
        )
    console.print(table)
    say("The same weights under each normalizer, without training for it.", console)
    console.print()


def _print_caches(audit: MemoryAudit, console: Console) -> None:
    if audit.gain.skipped:
        say(f"No cache was measured: {audit.gain.skipped}.", console)
        console.print()
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=0)
    table.add_column("cache", overflow="fold")
    for name in ("theta", "b", "w", "mass", "gain", ""):
        table.add_column(name, justify="right", overflow="fold")
    for cache in audit.gain.caches:
        table.add_row(
            cache_name(cache),
            *map(fitted_number, (cache.theta, cache.bias, cache.weight)),
            share(cache.mass),
            value(cache.gain),
            interval(cache.gain),
        )
    console.print(table)
    say("Nats per token, fitted on one half of the text, measured on the other.", console)
    console.print()


def _print_list(tokens: TokenList, console: Console) -> None:
    hint = ", read off the geometry, no proof" if tokens.path.endswith("never_trained") else ""
    _print_tokens(tokens.title.lower() + hint, tokens.groups, tokens.more, console)


def _print_tokens(title: str, groups: Sequence[Group], more: int, console: Console) -> None:
    more += max(0, len(groups) - SHOWN)
    texts = [_group(group, console) for group in groups[:SHOWN]]
    body = ", ".join(texts) + (f", and {more:,} more" if more else "")
    console.print(Text(f"{title}:", style="bold"))
    console.print(Padding(Text(body, overflow="fold"), (0, 0, 1, 2)))


def _group(group: Group, console: Console) -> str:
    rest = [f"{group.more:,} more"] if group.more else []
    return " = ".join([*(_name(token, console) for token in group.tokens), *rest])


def _name(token: TokenRef, console: Console) -> str:
    if token.string is None:
        return str(token.token)
    return f"{_encodable(visible(token.string), console)} ({token.token})"


def _closing(source: Provenance, console: Console) -> None:
    for note in source.notes:
        say(f"Note: {note}", console)
    text = "" if source.text is None else f", text {source.text}"
    tokens = "" if source.num_tokens is None else f", {source.num_tokens:,} tokens"
    say(
        f"head {source.head_sha256[:12]} ({source.head_dtype}){text}{tokens}, "
        f"seed {source.seed}, {sum(source.seconds.values()):,.0f} s",
        console,
        "dim",
    )


def _encodable(text: str, console: Console) -> str:
    """The text without newlines of names, and with escapes for what cannot be encoded."""
    return encodable(printable(text), console)
