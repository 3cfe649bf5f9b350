"""The comparison tables of the HTML report: cells as text, each row with its definition's path."""

from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.geometry import Geometry
from wideneck.audits.head import HeadAudit
from wideneck.audits.output import OutputAudit
from wideneck.audits.output.rank_cost import RankCost
from wideneck.report.numbers import interval, number, share, value


@dataclass(frozen=True)
class Table:
    """A caption, column heads with the paths of their definitions, and rows of text."""

    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, Sequence[str]]]
    """(label, path or "", cells)."""
    verbatim: frozenset[int] = frozenset()
    """Columns of names and hashes, which are no numbers to be set."""


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

GAUGES = (
    ("raw", "raw"),
    ("centred", "centred"),
    ("Gaussian", "null"),
    ("data-weighted", "data_weighted"),
    ("Gaussian, weighted", "data_weighted_null"),
)


def spectrum_table(head: HeadAudit) -> Table:
    """Every summary of the spectrum in every gauge."""
    gauges = [
        (label, name, getattr(head.spectrum, name))
        for label, name in GAUGES
        if getattr(head.spectrum, name) is not None
    ]
    return Table(
        "Singular values in one number",
        [(label, f"head.spectrum.{name}") for label, name, _ in gauges],
        [
            (
                label,
                f"head.spectrum.raw.{field}",
                [write(getattr(spectrum, field)) for _, _, spectrum in gauges],
            )
            for label, field, write in SPECTRUM
        ],
    )


def special_table(head: HeadAudit) -> Table | None:
    """All rows beside the rows that a text trained."""
    rest = head.without_special
    if rest is None:
        return None
    everything = Geometry(
        num_rows=head.vocab_size,
        spectrum=head.spectrum,
        mean_row_share=head.mean_row_share,
        row_norms=head.row_norms,
        cosines=head.cosines,
        cosines_centred=head.cosines_centred,
    )
    return Table(
        "With and without special rows",
        [("all rows", "head.spectrum"), ("without", "head.without_special")],
        [
            (label, f"head.without_special.{path}", [_at(g, path) for g in (everything, rest)])
            for label, path in (
                ("rows", "num_rows"),
                ("mean row, share of s_0^2", "mean_row_share"),
                ("singular entropy, raw, nats", "spectrum.raw.kl_sigma2"),
                ("singular entropy, centred, nats", "spectrum.centred.kl_sigma2"),
                ("effective rank, centred", "spectrum.centred.effective_rank"),
                ("stable rank, centred", "spectrum.centred.stable_rank"),
                ("median row norm", "row_norms.median"),
                ("mean cosine, raw", "cosines.anisotropy"),
                ("mean squared cosine, centred", "cosines_centred.superposition"),
            )
        ],
    )


def _at(geometry: Geometry, path: str) -> str:
    found = geometry
    for name in path.split("."):
        found = getattr(found, name)
    assert isinstance(found, int | float)
    # Four digits: the two columns differ late, and three would hide by how much.
    return share(found, 4) if path == "mean_row_share" else number(found, 4)


def cosine_table(head: HeadAudit) -> Table:
    """Angles of the rows."""
    raw, centred = head.cosines, head.cosines_centred
    return Table(
        "Cosines of two rows",
        [("raw", "head.cosines"), ("centred", "head.cosines_centred"), ("random", "")],
        [
            (
                "mean cosine",
                "head.cosines.anisotropy",
                [number(raw.anisotropy), number(centred.anisotropy), "about 0"],
            ),
            (
                "mean squared cosine",
                "head.cosines.superposition",
                [
                    number(raw.superposition),
                    number(centred.superposition),
                    number(raw.superposition_null),
                ],
            ),
        ],
    )


def norm_table(head: HeadAudit) -> Table:
    """Lengths of the rows, from the shortest to the longest."""
    norms = head.row_norms
    names = ("minimum", "p05", "median", "p95", "maximum", "num_zero")
    labels = (
        "shortest",
        "5th percentile",
        "median",
        "95th percentile",
        "longest",
        "rows of length zero",
    )
    return Table(
        "Lengths of the rows",
        [("length", "head.row_norms")],
        [
            (label, f"head.row_norms.{name}", [number(getattr(norms, name))])
            for label, name in zip(labels, names, strict=True)
        ],
    )


def logit_table(output: OutputAudit) -> Table:
    """Size and spread of the scores, and what the model does to them."""
    names = ("mean", "std", "spread", "minimum", "maximum")
    labels = ("mean", "standard deviation", "spread over the vocabulary", "smallest", "largest")
    cells = [number(getattr(output.logits, name)) for name in names]
    rows = [
        (label, f"output.logits.{name}", [cell])
        for label, name, cell in zip(labels, names, cells, strict=True)
    ]
    return Table("Logits", [("score", "output.logits")], rows)


def rank_table(output: OutputAudit) -> Table:
    """Ranks of the matrix of log-probabilities."""
    rank = output.rank
    bound = "none" if rank.bound is None else number(rank.bound)
    return Table(
        "Rank of the log-probabilities",
        [("rank", ""), ("bound", "output.rank.bound")],
        [
            (label, f"output.rank.{name}", [number(getattr(rank, name)), bound])
            for label, name in (
                ("above the tolerance", "press"),
                ("99.9 % of energy", "effective_1e3"),
                ("99.99 % of energy", "effective_1e4"),
                ("99.999 % of energy", "effective_1e5"),
            )
        ],
    )


def cost_table(cost: RankCost, method: str) -> Table | None:
    """One truncation at every rank."""
    points = [p for p in cost.points if p.method == method]
    if not points:
        return None
    base = "output.rank_cost.points[]"
    return Table(
        f"Nats lost, {method} truncation",
        [
            ("measured", f"{base}.measured"),
            ("95 % interval", f"{base}.measured.low"),
            ("predicted", f"{base}.predicted"),
            ("= first order", f"{base}.first_order"),
            ("+ Fisher", f"{base}.fisher"),
        ],
        [
            (
                number(p.rank),
                "",
                [
                    value(p.measured),
                    interval(p.measured),
                    number(p.predicted),
                    number(p.first_order),
                    number(p.fisher),
                ],
            )
            for p in points
        ],
    )
