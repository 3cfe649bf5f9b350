"""How a report shows section "head": the output layer, from its weights."""

from collections.abc import Iterator
from typing import Any

from wideneck.audits.head import HeadAudit, section
from wideneck.report import charts
from wideneck.report.numbers import counted, in_unit, known, number, share, with_name
from wideneck.report.parts import (
    Column,
    Heading,
    Link,
    Notes,
    Number,
    Numbers,
    Pair,
    Panel,
    Table,
    Verbatim,
    by_measure,
    note,
)
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

GAUGES = (
    ("raw", "raw"),
    ("centred", "centred"),
    ("Gaussian", "null"),
    ("data-weighted", "data_weighted"),
    ("Gaussian, weighted", "data_weighted_null"),
)
SPECTRUM = (
    ("singular entropy, s^2, nats", "kl_sigma2", number),
    ("share of log d", "kl_sigma2_share", share),
    ("singular entropy, s, nats", "kl_sigma", number),
    ("share of log d", "kl_sigma_share", share),
    ("effective rank, s", "effective_rank", number),
    ("effective rank, s^2", "effective_rank_sigma2", number),
    ("stable rank", "stable_rank", number),
    ("participation ratio", "participation_ratio", number),
    ("numerical rank", "numerical_rank", number),
    ("its tolerance", "rank_tolerance", number),
)
LENGTHS = (
    ("shortest", "minimum", number),
    ("5th percentile", "p05", number),
    ("median", "median", number),
    ("95th percentile", "p95", number),
    ("longest", "maximum", number),
    ("rows of length zero", "num_zero", number),
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
        count = counted(len(verdicts.unargmaxable), "token")
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
        found.append(f"{counted(len(verdicts.undecided), 'token')} stayed undecided.")
    if verdicts.ties:
        tied_tokens = counted(sum(len(tie.tokens) for tie in verdicts.ties), "token")
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
    yield Numbers("head", [*_numbers(head)])
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
    found = [(label, name, getattr(spectra, name)) for label, name in GAUGES]
    yield by_measure(
        "Singular values in one number",
        [(label, f"head.spectrum.{name}", gauge) for label, name, gauge in found if gauge],
        SPECTRUM,
        "head.spectrum.raw",
    )
    lengths = [("length", "head.row_norms", head.row_norms)]
    yield Pair(
        [
            _with_and_without_special(head),
            [_cosines(head), by_measure("Lengths of the rows", lengths, LENGTHS, "head.row_norms")],
        ]
    )
    yield from token_blocks(head)


def _numbers(head: HeadAudit) -> Iterator[Number]:
    """Geometry of the rows."""
    spectra, d = head.spectrum, head.hidden_size
    centred, null, path = spectra.centred, spectra.null, "head.spectrum.centred"
    # A Gaussian matrix has V E||mu||^2 = ||W||_F^2 / V, so the share is stable rank / V.
    gaussian = with_name(share(null.stable_rank / head.vocab_size), "Gaussian")
    mean_row = share(head.mean_row_share)
    yield Number("mean row, share of s_0^2", mean_row, [gaussian], "head.mean_row_share")
    yield _entropy("singular entropy, raw", "raw", head)
    yield _entropy("singular entropy, centred", "centred", head)
    if spectra.data_weighted is not None and spectra.data_weighted_null is not None:
        yield _entropy("singular entropy, weighted", "data_weighted", head)
    for name in ("effective_rank", "stable_rank", "participation_ratio"):
        label, found = f"{name.replace('_', ' ')}, centred", number(getattr(centred, name))
        beside = [with_name(number(getattr(null, name)), "Gaussian"), f"{d:,} max"]
        yield Number(label, found, beside, f"{path}.{name}")
    rank, most = number(centred.numerical_rank), f"{min(d, head.vocab_size - 1):,} max"
    yield Number("numerical rank, centred", rank, [most], f"{path}.numerical_rank")
    mean = number(head.cosines.anisotropy)
    yield Number("mean cosine of rows, raw", mean, ["about 0 Gaussian"], "head.cosines.anisotropy")
    squared = number(head.cosines_centred.superposition)
    chance = f"{number(head.cosines_centred.superposition_null)} at random"
    superposition = "head.cosines_centred.superposition"
    yield Number("mean squared cosine, centred", squared, [chance], superposition)


def _entropy(label: str, name: str, head: HeadAudit) -> Number:
    """Defined once, at the raw matrix; the others say what they change."""
    gauge, entropy = f"head.spectrum.{name}", f"head.spectrum.{name}.kl_sigma2"
    spectrum, weighted = getattr(head.spectrum, name), name == "data_weighted"
    null = head.spectrum.data_weighted_null if weighted else head.spectrum.null
    assert null is not None
    return Number(
        label,
        in_unit(number(spectrum.kl_sigma2), "nats"),
        [with_name(number(null.kl_sigma2), f"Gaussian{' weighted' if weighted else ''}")],
        entropy,
        detail=in_unit(share(spectrum.kl_sigma2_share), "of log d"),
        means=entropy if name == "raw" else gauge,
        caution=entropy if name == "centred" else gauge,
    )


def _with_and_without_special(head: HeadAudit) -> Table | None:
    """All rows beside the rows that a text trained."""
    if head.without_special is None:
        return None

    # Four digits: the two columns differ late, and three would hide by how much.
    def four(x: float) -> str:
        return number(x, 4)

    return by_measure(
        "With and without special rows",
        [
            ("all rows", "head.spectrum", head),
            ("without", "head.without_special", head.without_special),
        ],
        [
            ("rows", "num_rows", four),
            ("mean row, share of s_0^2", "mean_row_share", lambda x: share(x, 4)),
            ("singular entropy, raw, nats", "spectrum.raw.kl_sigma2", four),
            ("singular entropy, centred, nats", "spectrum.centred.kl_sigma2", four),
            ("effective rank, centred", "spectrum.centred.effective_rank", four),
            ("stable rank, centred", "spectrum.centred.stable_rank", four),
            ("median row norm", "row_norms.median", four),
            ("mean cosine, raw", "cosines.anisotropy", four),
            ("mean squared cosine, centred", "cosines_centred.superposition", four),
        ],
        "head.without_special",
    )


def _cosines(head: HeadAudit) -> Table:
    """Angles of the rows."""
    raw, centred, base = head.cosines, head.cosines_centred, "head.cosines"
    mean = [number(raw.anisotropy), number(centred.anisotropy), "about 0"]
    squared = map(number, (raw.superposition, centred.superposition, raw.superposition_null))
    return Table(
        "Cosines of two rows",
        [Column("raw", base), Column("centred", "head.cosines_centred"), Column("random")],
        [
            ("mean cosine", f"{base}.anisotropy", mean),
            ("mean squared cosine", f"{base}.superposition", list(squared)),
        ],
    )


SECTION = Section(
    audit=section,
    reads=False,
    summary=summary,
    blocks=blocks,
    headings={"": "Head", "argmaxable": "Tokens", "rows": "Tokens", "tokens": "Tokens"},
)
