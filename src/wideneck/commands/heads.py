"""`wideneck heads`: every output layer and what it adds.  Imports no torch."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wideneck import config as c
from wideneck import sizes

BIAS = " (+1 with bias)"


def rows(hidden_size: int, vocab_size: int) -> list[dict[str, Any]]:
    """One table of plain values for each head of `config.HEADS`, with its default options.

    Raises:
        WideneckError: a size below 1.
    """
    sizes.check_sizes(hidden_size, vocab_size)
    return [
        {
            "name": name,
            "formula": head.formula,
            "parameters_added_formula": sizes.parameters_formula(head),
            "parameters_added": sizes.num_parameters(head, hidden_size, vocab_size),
            "rank_bound_formula": sizes.rank_bound_formula(head),
            "rank_bound": sizes.rank_bound(head, hidden_size, vocab_size),
            "rank_bound_with_bias": sizes.rank_bound(head, hidden_size, vocab_size, bias=True),
            "cost": head.cost,
            "paper": head.paper,
            "options": {k: v for k, v in c.to_dict(head).items() if k != "name"},
        }
        for name, head in c.HEADS.items()
    ]


def show(hidden_size: int, vocab_size: int, console: Console) -> None:
    """Print the heads, about three lines each; fits 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column("head", no_wrap=True)
    table.add_column("parameters\nadded", justify="right", no_wrap=True)
    table.add_column("rank\nbound", justify="right", no_wrap=True)
    table.add_column("formula\ncost of a training step, paper")
    for row in rows(hidden_size, vocab_size):
        added, number = row["parameters_added_formula"], f"{row['parameters_added']:,}"
        rank = f"{row['rank_bound_formula'].removesuffix(BIAS)}\n= {row['rank_bound']:,}"
        lines = Text(row["formula"]).append(f"\n{row['cost']}")
        if row["paper"] != "-":
            lines.append(f"\n{row['paper']}", style="dim")
        table.add_row(
            Text(row["name"], style="bold"),
            added if added == number else f"{added}\n= {number}",
            "V" if row["rank_bound"] == vocab_size else rank,
            lines,
        )
    console.print(
        f"Output layers for hidden size d = {hidden_size:,} and vocabulary V = {vocab_size:,}. "
        f"A softmax has the {hidden_size * vocab_size:,} parameters of its output matrix; the "
        "table says what each head adds to them with its default options. The rank bound is that "
        "of the matrix of log-probabilities over any contexts; with a bias, the + 1 becomes + 2.",
        highlight=False,
    )
    console.print()
    console.print(table)
    console.print()
    console.print(
        f'wn.heads.build("mos", hidden_size={hidden_size}, vocab_size={vocab_size}, '
        "num_components=8)\nwideneck heads --json -   lists the options of each",
        highlight=False,
        style="dim",
    )
