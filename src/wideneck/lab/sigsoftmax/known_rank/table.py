"""KL against d for each head in the terminal, with ranks beside, in 80 columns."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from rich.console import Console
from rich.text import Text

from wideneck.lab.printing import Line, print_rows, say
from wideneck.lab.sigsoftmax.known_rank.contenders import CONTENDERS
from wideneck.lab.sigsoftmax.known_rank.fit import Fit
from wideneck.lab.sigsoftmax.settings import MATCHED

ROUNDING = 1e-12
"""Nats: a KL below is nothing but rounding."""
BELOW = "*"
DASH = "\N{EN DASH}"


def show(fits: Sequence[Fit], console: Console) -> None:
    """Print KL and ranks of every language, and how to read them."""
    for language in dict.fromkeys(fit.language for fit in fits):
        some = [fit for fit in fits if fit.language == language]
        columns = [("", ""), *((f"d = {width}", "") for width in _widths(some))]
        rank = f'"{language}", log-probabilities of rank {some[0].true_rank}'
        title = f"{rank}: KL in nats, mean and range over seeds"
        print_rows(title, kl_rows(some), columns, console)
        title = f"{rank}: ranks that were fitted, Press (float64)"
        print_rows(title, rank_rows(some), columns, console)
    for line in reading(fits):
        say(line, console)


def kl_rows(fits: Sequence[Fit]) -> Iterable[Line]:
    """Rows of heads, columns of widths; the fits of one language."""
    some = [fit for fit in fits if fit.head != MATCHED]
    yield _line("softmax's bound", some or fits, lambda cell: _short(cell[0].bound), "bold")
    for head in _heads(fits):
        own = [fit for fit in fits if fit.head == head]
        yield _line(head, own, _kl)
        if head == MATCHED:
            yield _line("  its d", own, lambda cell: str(cell[0].hidden_size), "dim")
            yield _line("  its bound", own, lambda cell: _short(cell[0].bound), "dim")


def rank_rows(fits: Sequence[Fit]) -> Iterable[Line]:
    """The same for numerical ranks, as means over seeds."""
    yield _line(
        "the language", fits, lambda c: f"{c[0].true_rank_press} ({c[0].true_rank})", "bold"
    )
    for head in _heads(fits):
        yield _line(head, [fit for fit in fits if fit.head == head], _rank)


def reading(fits: Sequence[Fit]) -> Iterable[str]:
    """What the tables say and do not say."""
    yield (
        "Each context has a free vector of d numbers, fitted with the head, so that only the head "
        'limits the KL. Contexts of "softmax" differ in 16 numbers, and a head of smaller d is '
        'short of numbers, however bent. Those of "topics" differ in 3, yet their '
        "log-probabilities have full rank: from d = 3 on, only the shape of a head is short."
    )
    yield (
        "Bound: proved; no softmax of this d is below it, whatever its weights. "
        f"{BELOW}: every seed is below it. The softmax's own KL is only what was found, no bound; "
        "it lies above the bound by however much the proof gives away."
    )
    yield (
        f"{MATCHED}: as wide as gives it the parameters of the MoS; its contexts are wider too, "
        "and uncounted. Any KL may be a limit of the head or of its training "
        f"({fits[0].num_steps:,} steps of Adam, one learning rate for all). Press counts singular "
        "values above sqrt(C + V + 1)/2 s_0 2^-23."
    )


def below_bound(fits: Iterable[Fit]) -> bool:
    """Whether every fit is below what its hidden size allows a softmax."""
    return all(fit.kl < fit.bound for fit in fits)


def _kl(cell: list[Fit]) -> str | Text:
    values = [fit.kl for fit in cell]
    mean, low, high = (_short(value) for value in (fmean(values), min(values), max(values)))
    marked = BELOW + mean if below_bound(cell) else mean
    if low == high:
        return marked
    return Text.assemble(marked, "\n", (f"{low}{DASH}{high}", "dim"))


def _rank(cell: list[Fit]) -> str:
    return f"{fmean(f.rank for f in cell):.0f} ({fmean(f.rank_float64 for f in cell):.0f})"


def _short(value: float) -> str:
    """`2.3e-3`, or 0."""
    if value < ROUNDING:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def _heads(fits: Sequence[Fit]) -> list[str]:
    """Heads that were fitted, in the order of `CONTENDERS`."""
    found = {fit.head for fit in fits}
    return [head for head in CONTENDERS if head in found]


def _widths(fits: Sequence[Fit]) -> list[int]:
    return sorted({fit.width for fit in fits})


def _line(
    name: str, fits: Sequence[Fit], cell: Callable[[list[Fit]], str | Text], style: str = ""
) -> Line:
    """A cell of each width."""
    cells = [[fit for fit in fits if fit.width == width] for width in _widths(fits)]
    return Line([name, *map(cell, cells)], style)
