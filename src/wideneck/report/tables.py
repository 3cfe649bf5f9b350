"""The tables of the sections "head" and "output"."""

from wideneck.audits.head import HeadAudit
from wideneck.audits.output import OutputAudit
from wideneck.audits.output.rank_cost import RankCost
from wideneck.report.numbers import interval, number, share, value
from wideneck.report.parts import Column, Table, by_item, by_measure

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
    found = [(label, name, getattr(head.spectrum, name)) for label, name in GAUGES]
    gauges = [(label, f"head.spectrum.{name}", gauge) for label, name, gauge in found if gauge]
    return by_measure("Singular values in one number", gauges, SPECTRUM, "head.spectrum.raw")


def special_table(head: HeadAudit) -> Table | None:
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


def cosine_table(head: HeadAudit) -> Table:
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


def norm_table(head: HeadAudit) -> Table:
    """Lengths of the rows, from the shortest to the longest."""
    rows = (
        ("shortest", "minimum", number),
        ("5th percentile", "p05", number),
        ("median", "median", number),
        ("95th percentile", "p95", number),
        ("longest", "maximum", number),
        ("rows of length zero", "num_zero", number),
    )
    columns = [("length", "head.row_norms", head.row_norms)]
    return by_measure("Lengths of the rows", columns, rows, "head.row_norms")


def logit_table(output: OutputAudit) -> Table:
    """Size and spread of the scores, and what the model does to them."""
    rows = (
        ("mean", "mean", number),
        ("standard deviation", "std", number),
        ("spread over the vocabulary", "spread", number),
        ("smallest", "minimum", number),
        ("largest", "maximum", number),
    )
    return by_measure("Logits", [("score", "output.logits", output.logits)], rows, "output.logits")


def rank_table(output: OutputAudit) -> Table:
    """Ranks of the matrix of log-probabilities."""
    rank = output.rank
    bound = "none" if rank.bound is None else number(rank.bound)
    return Table(
        "Rank of the log-probabilities",
        [Column("rank"), Column("bound", "output.rank.bound")],
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
    return by_item(
        f"Nats lost, {method} truncation",
        [p for p in cost.points if p.method == method],
        lambda p: number(p.rank),
        [
            ("measured", "measured", lambda p: value(p.measured)),
            ("95 % interval", "measured.low", lambda p: interval(p.measured)),
            ("predicted", "predicted", lambda p: number(p.predicted)),
            ("= first order", "first_order", lambda p: number(p.first_order)),
            ("+ Fisher", "fisher", lambda p: number(p.fisher)),
        ],
        "output.rank_cost.points[]",
        first="rank r",
    )
