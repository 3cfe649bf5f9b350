"""What the paper's figures and statements say, as it stands beside ours."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from wideneck.lab.published import Published
from wideneck.lab.tables import Line, Theirs
from wideneck.lab.verdict import MARKS, published_cell
from wideneck.report.parts import BOTH, Heading, line, note, paragraph

FIELDS = {
    "lowest singular entropy, nats": "kl_sigma2_lowest",
    "step of the lowest": "kl_sigma2_lowest_step",
    "final singular entropy, nats": "kl_sigma2",
    "final s_1 / s_0": "second_value",
}
"""What the paper has of the output layers of its models -> the figure of ours."""


def figures_4_and_5(published: Published) -> Iterator[Theirs]:
    """A row for each of the paper's models whose singular entropy was read off."""
    for model in published.find(data="output layer", measure="final singular entropy, nats"):
        of = published.find(data="output layer", row=model.row)
        cells = {FIELDS[one.measure]: one.printed for one in of}
        yield Theirs(f"  paper, {model.row.removeprefix('Pythia-')}", cells)


def figure_6(published: Published) -> Iterator[Line]:
    """A row for each r / d, a column for each of the paper's models."""
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    for one in published.find(table="Figure 6", measure="loss, nats"):
        losses[one.data][int(one.row.split()[2])] = one.value
    gaps = [
        {rank / max(of): f"{loss - of[max(of)]:+.3f}" for rank, loss in of.items()}
        for of in losses.values()
    ]
    for share in sorted({share for of in gaps for share in of if 1 / 64 <= share < 1}):
        yield Line(["", f"{share:.3f}", *(of.get(share, "") for of in gaps)])


def numbers(compared: Sequence[Any]) -> Iterator[Any]:
    """The law, and of the W-errors only the first of each text; JSON has all."""
    for one in compared:
        if one.figure is not None and one.published.row in ("fitted", "d = 1000"):
            printed = published_cell(one.published).replace(MARKS["figure"], " (figure)")
            yield SimpleNamespace(**vars(one), printed=printed, said=one.words.split(":")[0])


def statements(claims: Sequence[Any]) -> Iterator[Any]:
    """Each of the paper, and below it ours and what may be said."""
    yield Heading("Statements of the paper", level=3)
    yield line("Statements of the paper", style="bold")
    for one in claims:
        says = f"{one.published.table}{MARKS[one.published.status]}: {one.published.says}"
        yield paragraph(f"{says}.")
        yield note(f"Here: {one.ours}: {one.words}.", css="ours", face=BOTH)
