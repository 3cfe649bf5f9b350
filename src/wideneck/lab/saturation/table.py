"""What the page has of the reproduction: rows of its tables, and charts."""

import statistics
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from wideneck.lab.published import prose
from wideneck.lab.saturation.beside import figure_6, figures_4_and_5, numbers, statements
from wideneck.lab.saturation.charts import heads_of_rank, over_steps
from wideneck.lab.saturation.ngrams import Ngrams
from wideneck.lab.saturation.reproduction import Reproduction
from wideneck.lab.saturation.scaling import Laws
from wideneck.lab.spread import in_words
from wideneck.report.numbers import basis
from wideneck.report.parts import Pair, Panel

WORDS = prose("saturation")
LARGEST = "Pythia-410M"
"""The one of those read off that the paper fits its law on."""


def said(found: Reproduction) -> dict[str, object]:
    """What the sentences have places for."""
    untouched, heads = found.arms[-1].first, found.settings["heads"]
    other = heads["model"].get("model") or heads["data"].get("text")
    small = [row.gap_percent for row in found.laws.published.rows if row.name != LARGEST]
    return {
        "over": in_words(len({run.seed for run in found.family})),
        "model": _short(found.truncated.model),
        "untouched": untouched,
        "basis": basis(untouched),
        "chosen": "" if other or found.settings["scale"] != "small" else WORDS["chosen"],
        "refused": WORDS["refused"].format(found=found) if found.laws.refused else "",
        "its_gap": found.published.one(row="final checkpoints", table="section 3"),
        "read_gap": statistics.fmean(small),
        "num_models": len(found.family),
        "num_heads": len(found.heads),
        "seconds": sum(run.seconds for run in (*found.family, *found.heads)),
        "speed": statistics.fmean(run.tokens_per_second for run in found.family),
    }


def parts(found: Reproduction) -> dict[str, Sequence[Any]]:
    """The rows of the tables, the charts and the statements."""
    courses = [("loss", "held-out loss, nats"), ("kl_sigma2", "singular entropy, nats")]
    return {
        "losses": found.widths,
        "geometry": [*found.widths, *figures_4_and_5(found.published)],
        "courses": [Pair([Panel(over_steps(found, *course)) for course in courses])],
        "heads": found.arms,
        "cut": [Pair([Panel(heads_of_rank(found))])],
        "figure_6": [*figure_6(found.published)],
        "ngrams": [*_ngrams(found.ngrams)],
        "laws": [*_laws(found.laws)],
        "compared": [*numbers(found.compared)],
        "statements": [*statements(found.claims)],
    }


def _ngrams(texts: Sequence[Ngrams]) -> Iterator[Any]:
    for text in texts:
        for n in text.orders:
            at = {point.d: point for point in n.unweighted.errors}
            yield SimpleNamespace(
                text=_short(text.tokens)[:8],
                n=n,
                once=100 * n.seen_once_share,
                one_hot=100 * n.one_hot_share,
                at_100=at.get(100),
                at_1000=at.get(1000),
            )


def _laws(laws: Laws) -> Iterator[Any]:
    kinds = vars(laws) | {"published": [laws.published]}
    for kind, name in WORDS["fits"].items():
        for fit in kinds[kind]:
            gap = fit.mean_gap_percent
            yield SimpleNamespace(
                name=name,
                fit=fit,
                counted=fit.counted.replace("_", "-"),
                gap=None if gap is None else f"{gap:+.1f} %",
            )


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]
