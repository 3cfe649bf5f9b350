"""What the search for unargmaxable tokens reports: verdicts with their evidence.

V rows w_i in R^D with biases b_i (0 without one); x is a hidden state. Two scales say how large the
numbers of a row are, so that every pair of rows is judged at its own: s_k, the size of column k
(root mean square of w_jk over all rows j, each divided by its largest |w_jk|; 1 for a column of
zeros), and r_i = max_k |w_ik| / s_k, so that |w_ik| <= r_i s_k. Two more are only there to print
margins: L, the median length of the rows less their centre, and B, the median |b_i| less the
median bias. The centre is the mean row, in which a row longer than eight times the median counts
as that long.
"""

from dataclasses import dataclass

from wideneck.audits.measure import measure


@dataclass(frozen=True, kw_only=True)
class TokenRef:
    """One row of the head."""

    token: int = measure("the row's number, which is the token's id")
    string: str | None = measure("the tokenizer's string; none for a row beyond the tokenizer")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A point of the hull of other rows that coincides with the row, up to `residual`.

    For any weights a_j >= 0 with sum 1 and any x with |x_k| <= box, the smallest margin over
    j, each less its tolerance, is at most the a-weighted mean of them, hence at most

        box * sum_k max(0, |w_i - sum_j a_j w_j|_k - tolerance R s_k)
            + b_i - sum_j a_j b_j - tolerance (|b_i| + sum_j a_j |b_j|),   R = r_i + sum_j a_j r_j,

    which is not above 0 (without a bias: no term of the first sum is). A few lines of numpy check
    it; no solver has to be believed. No certificate rests on a row that has one itself at that
    time, so the rows called unargmaxable cannot be mixtures of each other alone.
    """

    tokens: list[int] = measure(
        "ids j of the rows that enclose this one",
        caution="empty once the certificates before it hold 1,048,576 weights: `find_proof` finds "
        "one anew",
    )
    weights: list[float] = measure("their weights a_j: none negative, sum 1")
    residual: float = measure(
        "box * ||w_i - sum_j a_j w_j||_1 (box 1 without a bias) over the scale of the bound, in "
        "float64"
    )


@dataclass(frozen=True, kw_only=True)
class Unargmaxable(TokenRef):
    """A token that no hidden state makes the strict argmax.

    Meant is exact arithmetic on the stored weights, over all x (with a bias: all x in the box),
    up to the tolerance: one spacing of float32 in every number. A forward pass in low precision
    still can pick such a token, by a rounding error or by a tie.
    """

    bound: float = measure(
        "upper bound of sum_j a_j ((w_i - w_j).x + b_i - b_j), and so of the smallest margin, over "
        "every x with |x_k| <= box (1 without a bias), over the scale box * R * sum_k s_k + |b_i| "
        "+ sum_j a_j |b_j|, R = r_i + sum_j a_j r_j. Rounding of its own evaluation is included",
        caution="a bound of 1e-15, not 0, is what float64 can say of a row inside the hull",
    )
    certificate: Certificate = measure("the proof of the bound")


@dataclass(frozen=True, kw_only=True)
class Witness(TokenRef):
    """A hidden state at which the token is the strict argmax."""

    method: str = measure('stage that found it: "cluster", "reflection", "hull" or "program"')
    margin: float = measure(
        "min_j (w_i - w_j).x + b_i - b_j over all other rows in float64, over ||x||_2 L + B",
        caution="the margin of this x, not the largest that some x would give",
    )
    x: list[float] = measure(
        "the hidden state, D numbers",
        caution="empty once the states before it hold 1,048,576 numbers: `find_proof` finds one "
        "anew",
    )


@dataclass(frozen=True, kw_only=True)
class Tie:
    """Tokens whose rows and biases are equal, or so close that no tolerance tells them apart.

    Close: |w_ik - w_jk| <= tolerance * (r_i + r_j) s_k for every k, likewise the biases; then no
    state gives either a margin over the other. The first one stands for the others.
    """

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
    num_distinct: int = measure(
        "rows that differ, in row or in bias, by more than the tolerance", unit="rows"
    )
    unargmaxable: list[Unargmaxable] = measure(
        "tokens that no hidden state makes the strict argmax, each with a certificate. Every copy "
        "of such a row is listed",
        caution="such a token still gets probability and can be sampled",
    )
    undecided: list[TokenRef] = measure(
        "tokens with neither witness nor certificate at the tolerance, within the limits"
    )
    ties: list[Tie] = measure("groups of two or more rows that tie")
    decided_by: dict[str, int] = measure(
        "distinct rows that each stage decided: whitened and plain self-test, clusters of rows, "
        "reflection, nearest point of the hull, linear program",
        unit="rows",
    )
    plain: list[int] = measure(
        "ids of the tokens whose state is that of the plain self-test",
        caution="one id a group of rows that tie",
    )
    smallest_margin: float | None = measure(
        "smallest relative margin among the witnesses of all argmaxable rows: margin over "
        "||x||_2 L + B; None where no row had to be told from another",
        caution="of the witness found first, by a self-test mostly; a better x may exist. For "
        "self-tests it is a lower bound, less float32's rounding and the tolerance",
    )
    median_margin: float | None = measure("the median of the same margins")
    tolerance: float = measure(
        "of one number, relative: 2^-23, the spacing of float32, for every type up to it; 2^-36 "
        "for float64. argmaxable needs a witness whose margin over every row j exceeds tolerance * "
        "((r_i + r_j) sum_k s_k |x_k| + |b_i| + |b_j|); unargmaxable a certificate that there is "
        "none. So the accident of storage decides nothing, and a long row counts for its own pairs"
    )
    box: float | None = measure(
        "hidden states are sought with |x_k| <= box; None without a bias, where scaling x changes "
        "no verdict"
    )
    witnesses: list[Witness] = measure(
        "the states found for tokens that no self-test decided. For the others the state is a "
        "formula: `self_test_witness`"
    )
