"""What a comparison opens with: which is better, by how much, and how sure that is."""

from collections.abc import Iterator, Sequence

from wideneck.audits.estimate import Estimate
from wideneck.evaluation.comparison.results import Difference, GroupDifference, OverSeeds
from wideneck.report.numbers import basis, counted, estimate, number
from wideneck.report.parts import Prose, Verbatim, lede

SEEN = "would show a difference of this size in 80 % of repetitions, by 1 / sqrt(n) alone."


def opening(
    first: str, differences: Sequence[Difference], groups: Sequence[GroupDifference]
) -> Iterator[Prose]:
    """One paragraph for each model, or group, beside the first."""
    for one in differences:
        value = one.loss or one.bits_per_byte
        what = "loss in nats a token" if one.loss else "bits a byte"
        size = f"its {what} minus that of the first is {estimate(value)}; {basis(value)}."
        yield lede(
            Verbatim(one.model),
            f" {_verdict(value.value, value.low, value.high)} ",
            Verbatim(first),
            f": {size if value.value else f'no loss differs; {basis(value)}.'}",
            _more(one.documents_to_see, value),
        )
    for group in groups:
        row = group.rows[0]
        yield lede(
            f"{counted(group.num_models, 'model')} of ",
            Verbatim(group.group),
            f" {_verdict(row.difference, row.low, row.high, of='this text')} the first group: "
            f"their mean loss minus that of the first is {over_models(row)} nats a token, with a "
            "95 % interval over models.",
            _seeds(row),
        )


def over_models(row: OverSeeds) -> str:
    """A difference of groups, with its interval."""
    if row.low is None or row.high is None:
        return number(row.difference)
    return f"{number(row.difference)} [{number(row.low)}, {number(row.high)}]"


def _verdict(
    value: float, low: float | None, high: float | None, *, of: str = "this kind of text"
) -> str:
    """What the interval lets one say; what stands before and after it are names."""
    if value == 0:
        return "predicts exactly as well as"
    if low is None or high is None:
        return f"predicts these tokens {'better' if value < 0 else 'worse'} than"
    if high < 0:
        return f"predicts {of} better than"
    return f"predicts {of} worse than" if low > 0 else "cannot be told from"


def _more(needed: int | None, value: Estimate) -> str:
    if needed is None or value.low is None or value.high is None or value.low * value.high > 0:
        return ""
    return f" Some {needed:,} {value.over} in place of {value.num_groups:,} {SEEN}"


def _seeds(row: OverSeeds) -> str:
    if row.low is None or row.high is None:
        return " One model in a group says nothing of the spread of others: there is no interval."
    if row.models_to_see is None or row.low * row.high > 0:
        return ""
    return f" Some {row.models_to_see:,} models in each {SEEN}"
