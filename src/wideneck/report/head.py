"""How a report shows section "head": the output layer, from its weights."""

from collections.abc import Iterator
from typing import Any

from wideneck.audits.head import HeadAudit, section
from wideneck.report import charts, tables
from wideneck.report.figures import head_figures
from wideneck.report.numbers import known, number, share
from wideneck.report.parts import Figures, Heading, Link, Notes, Pair, Panel, Verbatim, note
from wideneck.report.reference import Reference
from wideneck.report.section import Section
from wideneck.report.tokens import token_blocks

SYMBOLS = (
    "V is the size of the vocabulary, d the hidden size, W the V \N{MULTIPLICATION SIGN} d "
    "head, x a hidden state, s_i the singular values from the largest, p the model's prediction."
)
GEOMETRY = (
    "Geometry, from the weights alone: it describes {} and diagnoses nothing. “Gaussian” is a "
    "matrix of the same shape with independent normal entries."
)


def summary(head: HeadAudit) -> list[str]:
    """Shape, mean row, and which tokens cannot come first."""
    tied = "tied to the input embedding" if head.tied else "not tied to the input embedding"
    found = [
        f"The head is {head.vocab_size:,} x {head.hidden_size:,} and {tied}.",
        f"Its mean row, which a softmax does not see, explains {share(head.mean_row_share)} of the "
        "largest squared singular value."
        if known(head.mean_row_share)
        else "What its mean row explains is not measurable.",
    ]
    verdicts = head.argmaxable
    if verdicts is None:
        return found
    if verdicts.unargmaxable:
        count = _tokens(len(verdicts.unargmaxable))
        states = "whatever the hidden state"
        if verdicts.box is not None:
            states = f"at no hidden state with entries up to {number(verdicts.box)} in size"
        found.append(f"{count} can never be the most probable, {states}.")
    elif not verdicts.undecided:
        found.append(
            f"Each of the {verdicts.num_distinct:,} different rows comes first for some hidden "
            "state, which need not be one that the model produces."
        )
    if verdicts.undecided:
        found.append(f"{_tokens(len(verdicts.undecided))} stayed undecided.")
    if verdicts.ties:
        tied_tokens = _tokens(sum(len(tie.tokens) for tie in verdicts.ties))
        found.append(f"{tied_tokens} can at best share the first place with an equal row.")
    return found


def blocks(head: HeadAudit, reference: Reference) -> Iterator[Any]:
    """Geometry, then tokens."""
    spectra = head.spectrum
    yield Heading("Head", "head", "Head")
    yield note(
        f"{number(head.vocab_size)} x {number(head.hidden_size)}, "
        f"{'tied' if head.tied else 'untied'} (",
        Verbatim(head.tying, most=2000),
        f"), {'with a bias' if head.has_bias else 'no bias'}; ",
        Verbatim(head.tensor, code=True),
        ", stored as ",
        Verbatim(head.dtype),
        ".",
        css="facts",
    )
    yield note(GEOMETRY.format("the head"))
    yield Figures("head", head_figures(head))
    yield Notes(head.notes)
    weighted = " Its Gaussian: a Gaussian matrix, weighted by the same hidden states."
    flat = (
        "Each matrix over its own root mean square, so a flat spectrum lies at 1. Raw is not a "
        "function of the predictions; a softmax sees the centred matrix only."
    )
    error = "A Frobenius error, not a loss. What a cut costs in nats is "
    cost = "#cost" if "output.rank_cost" in reference else "#definitions"
    yield Pair(
        [
            Panel(
                charts.spectrum_chart(spectra),
                flat + (weighted if spectra.data_weighted_null is not None else ""),
            ),
            Panel(charts.error_chart(spectra), [error, Link("measured apart", cost), "."]),
        ]
    )
    yield tables.spectrum_table(head)
    yield Pair([tables.special_table(head), [tables.cosine_table(head), tables.norm_table(head)]])
    yield from token_blocks(head)


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count:,} tokens"


SECTION = Section(
    audit=section,
    reads=False,
    summary=summary,
    blocks=blocks,
    headings={"": "Head", "argmaxable": "Tokens", "rows": "Tokens"},
)
