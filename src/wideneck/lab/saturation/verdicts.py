"""The paper's numbers and statements beside ours, and what may be said of them.

For each statement there is a function that can say yes, no and undecided.
A verdict begins with one of the words of `wideneck.lab.verdict`, its reason behind a colon.  All
of them rest on 95 % intervals, over seeds or over documents: what an interval leaves open stays
undecided.  The paper gives no figure for "noticeably" or "rises"; those here are ours.
"""

from collections.abc import Sequence

from wideneck.lab.published import Published
from wideneck.lab.saturation.arms import Arm
from wideneck.lab.saturation.laws import Laws
from wideneck.lab.saturation.ngram_run import Ngrams
from wideneck.lab.saturation.widths import Width
from wideneck.lab.verdict import (
    CONSISTENT,
    CONTRADICTED,
    DESCRIBED,
    NOT_MEASURED,
    UNDECIDED,
    Comparison,
    Verdict,
    compared_number,
)

Said = tuple[str, str]
"""What was measured here, and the verdict."""
Told = tuple[Arm, bool | None]
"""An arm, and whether it loses noticeably; None where that is not told."""

ORDER = 5
"""Of the paper's n-grams."""
NOTICEABLE = 0.05
"""Nats that a head of rank below 1000 must lose for the paper's "noticeably"."""
RANK = 1000
"""Below which performance drops, says the paper."""
SUFFERS = 0.6
"""W-error beyond which the loss suffers, says the paper."""
HALVES = (1000, 2000)
"""Dimensions that halve the W-error of 5-grams, says the paper."""
LEAST_RISE = 0.005
"""Nats by which the loss of the paper's smallest model rises, the least of its Figure 1a."""
TURNED = 1.6e11
"""Training tokens after which the loss of each of the paper's saturating models had been lowest:
step 75,000 of 143,000, 300 billion tokens in all (Figure 1a)."""
NEAR_NULL = 0.05
"""Share of the null's dimensions by which the curve must depart from it to say something else."""


def compared(published: Published, ngrams: Sequence[Ngrams], laws: Laws) -> list[Comparison]:
    """The numbers that have a counterpart: the law, and the n-grams of the paper's order."""
    fits = [vars(fit.law) for fit in laws.family[:1]]
    five = [n for n in ngrams[-1].orders if n.order == ORDER]
    errors = [(e.d, e.w_error) for n in five for e in n.unweighted.errors if e.w_error is not None]
    found = [
        compared_number(
            published.one(row="fitted", measure=name),
            f"{name} of our family",
            [fit[name] for fit in fits],
            other="another scale",
        )
        for name in ("A", "alpha")
    ]
    for row in published.find(measure="W-error(d)"):
        ours = [error for d, error in errors if f"d = {d}" == row.row]
        other = "another text, far shorter, and tokenizer"
        found.append(compared_number(row, f"W-error({row.row})", ours, other=other))
    return found


def claims(
    published: Published,
    widths: Sequence[Width],
    arms: Sequence[Arm],
    ngrams: Sequence[Ngrams],
    tokens: int,
) -> list[Comparison]:
    """Each statement of the paper, with ours and a verdict.

    Args:
        published: the paper's.
        widths, arms, ngrams: ours.
        tokens: that each model of the family was trained on.
    """
    found = {
        "saturation": saturation(widths, tokens),
        "entropy": entropy(widths),
        "rank": rank(arms),
        "w-error": w_error(arms),
        "dimensions": dimensions(ngrams[-1]),
    }
    return [
        Comparison(published=claim, ours=ours, values=[], figure=None, verdict=Verdict(words=words))
        for claim in published.claims
        for ours, words in [found[claim.name]]
    ]


def saturation(widths: Sequence[Width], tokens: int) -> Said:
    """Whether the held-out loss of some width rises while its training loss does not fall.

    The final loss less the lowest is never below 0, so a rise counts from the paper's least on.
    A training loss that goes on falling makes it overfitting, which the paper does not mean.  Only
    training as long as the paper's can contradict what it says of late training.

    Args:
        tokens: that each model was trained on.
    """
    if any(w.rise.low is None for w in widths):
        return "one seed", f"{UNDECIDED}: one seed"
    rising = [w for w in widths if (w.rise.low or 0.0) >= LEAST_RISE]
    if not rising:
        ours = (
            f"no width whose held-out loss rises by {LEAST_RISE} nats, by its interval over seeds"
        )
        if any((w.rise.high or 0.0) >= LEAST_RISE for w in widths):
            return ours, f"{UNDECIDED}: a rise of {LEAST_RISE} nats is not excluded"
        if tokens < TURNED:
            return ours, f"{UNDECIDED}: not seen here, and no run is long enough to deny it"
        return ours, CONTRADICTED
    ours = f"held-out loss rises late at d = {_widths(rising)}"
    stalled = [w for w in rising if (w.train_fall.high or 0.0) < 0]
    if stalled:
        return f"{ours}; so does the training loss at d = {_widths(stalled)}", CONSISTENT
    left = [w for w in rising if not (w.train_fall.low or 0.0) > 0]
    if left:
        return (
            f"{ours}; the training loss at d = {_widths(left)} is not told to fall or to rise",
            f"{UNDECIDED}: overfitting is not told from it",
        )
    return (
        f"{ours}; the training loss goes on falling in all of them",
        f"{UNDECIDED}: overfitting, which the paper does not mean",
    )


def entropy(widths: Sequence[Width]) -> Said:
    """What the singular entropy does; the paper says by no number what a slow fall or a jump is."""
    parts = [
        f"{w.width}: {w.figures['kl_sigma2_lowest'].mean:.2f} to {w.figures['kl_sigma2'].mean:.2f}"
        for w in widths
    ]
    ours = f"lowest to final, nats, at d = {'; '.join(parts)}"
    return ours, f"{DESCRIBED}: another scale, and the final value goes with d and with the rate"


def rank(arms: Sequence[Arm]) -> Said:
    """Whether every head of rank below 1000 loses noticeably to the one of full rank.

    One that certainly does not contradicts it, however much smaller ones lose, if the one of full
    rank is beyond 1000: below, that one may have lost as much already.
    """
    full, trained = _trained(arms)
    below = [(arm, loses) for arm, loses in trained if arm.rank < RANK]
    if not below:
        return f"no rank below {RANK} was trained", NOT_MEASURED
    ours = f"against rank d = {full.rank}, {_losses(below)}"
    verdict = _verdict([loses for _, loses in below])
    if full.rank < RANK:
        ours += f"; d itself is below {RANK}"
        if verdict == CONTRADICTED:
            verdict = f"{UNDECIDED}: no head of rank {RANK} to compare with"
    return ours, verdict


def w_error(arms: Sequence[Arm]) -> Said:
    """Whether heads lose noticeably beyond a W-error of 0.6 and not up to it."""
    _, trained = _trained(arms)
    within = [(arm, loses) for arm, loses in trained if arm.w_error <= SUFFERS]
    beyond = [(arm, loses) for arm, loses in trained if arm.w_error > SUFFERS]
    if not within or not beyond:
        side = "of more than" if within else "of at most"
        return f"no rank here has a W-error {side} {SUFFERS}", NOT_MEASURED
    last = max((arm for arm, _ in within), key=lambda arm: arm.w_error)
    ours = (
        f"up to W-error {SUFFERS}, {_losses(within)}; beyond, {_losses(beyond)}; "
        f"the last up to it has {last.w_error:.2f}, {last.w_error_centred:.2f} without the mean row"
    )
    spared = [None if loses is None else not loses for _, loses in within]
    return ours, _verdict([*(loses for _, loses in beyond), *spared])


def dimensions(ngrams: Ngrams) -> Said:
    """Whether 1000 to 2000 dimensions halve the W-error of 5-grams, where that is no null's."""
    five = next((n for n in ngrams.orders if n.order == ORDER), None)
    if five is None:
        return f"no {ORDER}-grams counted", NOT_MEASURED
    half, null = five.unweighted.half, five.unweighted.half_null
    found = five.unweighted.num_eigenvalues
    ours = f"1/2 at d = {f'beyond {found}' if half is None else half}; the null: {null}"
    least, most = HALVES
    if half is None:
        return ours, f"{UNDECIDED}: no more eigenvalues were found"
    if null - half <= NEAR_NULL * null:
        return ours, f"{UNDECIDED}: the diagonal alone, without what contexts share, says as much"
    return ours, CONSISTENT if least <= half <= most else CONTRADICTED


def _trained(arms: Sequence[Arm]) -> tuple[Arm, list[Told]]:
    """The softmax of rank d, one matrix, and the heads that were trained from it cut.

    Two factors at the rate of one matrix learn otherwise than that matrix.  What those of rank d
    gain or lose by it, up to the ends of their interval, is taken off or added on.
    """
    full = next(arm for arm in arms if arm.start == "own")
    cut = [arm for arm in arms if arm.start == "whitened"]
    controls = [arm.full_gap for arm in cut if arm.rank == full.rank]
    ends = [(gap.low, gap.high) for gap in controls] or [(0.0, 0.0)]

    def loses(arm: Arm) -> bool | None:
        (gained, lost), low, high = ends[-1], arm.full_gap.low, arm.full_gap.high
        if gained is None or lost is None or low is None or high is None:
            return None
        if low - max(0.0, lost) > NOTICEABLE:
            return True
        return False if high + max(0.0, -gained) < NOTICEABLE else None

    return full, [(arm, loses(arm)) for arm in cut if arm.rank < full.rank]


def _verdict(as_said: Sequence[bool | None]) -> str:
    """Of a statement about several arms, of each of which it is told or not whether it is so."""
    if any(said is False for said in as_said):
        return CONTRADICTED
    if all(as_said):
        return CONSISTENT
    return f"{UNDECIDED}: some intervals hold {NOTICEABLE} nats"


def _losses(told: Sequence[Told]) -> str:
    """Which ranks lose more than what is noticeable, which do not, and which are not told."""
    kinds = {
        f"more than {NOTICEABLE} nats are lost at r =": True,
        "less at r =": False,
        "not told at r =": None,
    }
    found = {
        words: [str(a.rank) for a, loses in told if loses is kind] for words, kind in kinds.items()
    }
    return ", ".join(f"{words} {', '.join(ranks)}" for words, ranks in found.items() if ranks)


def _widths(widths: Sequence[Width]) -> str:
    return ", ".join(f"{w.width}" for w in widths)
