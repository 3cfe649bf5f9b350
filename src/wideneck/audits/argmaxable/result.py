"""What the search for unargmaxable tokens reports: verdicts with their evidence.

V rows w_i in R^D with biases b_i (0 without one); x is a hidden state. Two scales make the
numbers relative: R, the largest ||w_j - mean of the rows||_2, and B, the largest
|b_j - mean of the biases| (0 without a bias). Both are unchanged when one vector is added to
every row, which is also what leaves the softmax unchanged.
"""

from dataclasses import dataclass

from wideneck.audits.measure import measure
from wideneck.audits.token import TokenRef


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A point of the hull of other rows that coincides with the row, up to `residual`.

    For any weights a_j >= 0 with sum 1 and any x with |x_k| <= box, the smallest margin over
    j is at most the a-weighted mean of the margins, hence at most
    box * ||w_i - sum_j a_j w_j||_1 + b_i - sum_j a_j b_j. Two lines of numpy check it; no
    solver has to be believed.
    """

    tokens: list[int] = measure("ids j of the rows that enclose this one")
    weights: list[float] = measure("their weights a_j: none negative, sum 1")
    residual: float = measure("||w_i - sum_j a_j w_j||_1 / R, in float64")


@dataclass(frozen=True, kw_only=True)
class Unargmaxable(TokenRef):
    """A token that no hidden state makes the strict argmax.

    Meant is exact arithmetic on the stored weights, over all x (with a bias: all x in the box),
    up to the tolerance: rounding the rows to float32. A forward pass in low precision still can
    pick such a token, by a rounding error or by a tie.
    """

    bound: float = measure(
        "upper bound of the margin min_j (w_i - w_j).x + b_i - b_j over every x with |x_k| <= box "
        "(1 without a bias), divided by R * box + B. Rounding of its own evaluation is included",
        caution="a bound of 1e-15, not 0, is what float64 can say of a row inside the hull",
    )
    certificate: Certificate = measure("the proof of the bound")


@dataclass(frozen=True, kw_only=True)
class Witness(TokenRef):
    """A hidden state at which the token is the strict argmax."""

    method: str = measure('stage that found it: "reflection", "hull" or "program"')
    margin: float = measure(
        "min_j (w_i - w_j).x + b_i - b_j over all other rows in float64, over ||x||_2 R + B",
        caution="the margin of this x, not the largest that some x would give",
    )
    x: list[float] = measure("the hidden state, D numbers")


@dataclass(frozen=True, kw_only=True)
class Tie:
    """Tokens with the same row and the same bias: they always score alike."""

    tokens: list[int] = measure(
        "their ids. Each can at best share the first place",
        caution="beside the list of unargmaxable tokens: one is there only if the row lies inside",
    )
    strings: list[str | None] = measure("their strings, in the same order")


@dataclass(frozen=True, kw_only=True)
class Argmaxable:
    """Which tokens some hidden state can make the strict argmax (Grivas et al. 2022).

    Argmaxable says that a vector x exists. It says neither that the final norm can put out
    that x, nor that a prompt leads there, nor what probability the token gets. A monotone
    soft cap or a positive scale after the head changes no verdict, except that a saturated
    cap can tie in floating point.
    """

    num_tokens: int = measure("rows V of the head", unit="tokens")
    num_distinct: int = measure("rows that differ, in row or in bias", unit="rows")
    unargmaxable: list[Unargmaxable] = measure(
        "tokens that no hidden state makes the strict argmax, each with a certificate. Every copy "
        "of such a row is listed",
        caution="such a token still gets probability and can be sampled",
    )
    undecided: list[TokenRef] = measure(
        "tokens with neither witness nor certificate at the tolerance, within the limits"
    )
    ties: list[Tie] = measure("groups of two or more equal rows")
    decided_by: dict[str, int] = measure(
        "distinct rows that each stage decided: whitened and plain self-test, reflection, nearest "
        "point of the hull, linear program",
        unit="rows",
    )
    plain: list[int] = measure(
        "ids of the tokens whose state is that of the plain self-test",
        caution="one id a group of equal rows",
    )
    smallest_margin: float | None = measure(
        "smallest relative margin among the witnesses of all argmaxable rows: margin over "
        "||x||_2 R + B; None where no row had to be told from another",
        caution="of the witness found first, by a self-test mostly; a better x may exist. For "
        "self-tests it is a lower bound that allows for float32 rounding",
    )
    median_margin: float | None = measure("the median of the same margins")
    tolerance: float = measure(
        "argmaxable needs a witness of margin above tolerance * R * ||x||_inf, with a bias "
        "tolerance * (R * box + B); unargmaxable a bound at most tolerance. It is "
        "sqrt(d) * 2^-23: what rounding two rows to float32 can do to a margin, so that the "
        "accident of storage decides nothing. R is the largest norm of a row less the mean row, B "
        "the largest |bias| less the mean bias, 0 without one"
    )
    box: float | None = measure(
        "hidden states are sought with |x_k| <= box; None without a bias, where scaling x changes "
        "no verdict"
    )
    witnesses: list[Witness] = measure(
        "the states found for tokens that no self-test decided. For the others the state is a "
        "formula: `self_test_witness`"
    )
