"""What stands out in a watched run, each with what is known of it: notes, no verdicts."""

from collections.abc import Iterator, Sequence

from wideneck.watching.quantities import Watched

LARGE_SCORE, VARIANCE = 50.0, 100.0
STEPS, TIMES, LEAST = 1000, 2.0, 0.01
"""The mean row's share may rise this many times within so many steps; below the least it is what
any matrix at its start has."""
LOST = 0.5
EVIDENCE = (
    "in the released tables of arXiv 2601.02031 (350 runs of 16M to 221M parameters, one seed "
    "each) the median excess loss was 0.02 nats below 50, 0.08 between 100 and 300 and 0.61 above"
)
UNTESTED = "a rule of thumb that nobody has tested on other runs"


def notes(steps: Sequence[Watched]) -> list[str]:
    """One sentence or two for each threshold that a run has passed, in the order of the docs."""
    return [*_scores(steps), *_variance(steps), *_mean_row(steps), *_rank(steps)]


def _scores(steps: Sequence[Watched]) -> Iterator[str]:
    for step in steps:
        if step.largest_score is not None and step.largest_score > LARGE_SCORE:
            above = step.largest_above_mean or 0.0
            common = above <= LARGE_SCORE
            where = (
                f"it stands {above:.3g} above the mean score, so most of it is a shift of all "
                "scores, which a softmax does not see"
                if common
                else f"it stands {above:.3g} above the mean score"
            )
            yield (
                f"From step {step.step:,} the largest score is above {LARGE_SCORE:g} "
                f"({step.largest_score:.3g}; {where}): {EVIDENCE}."
            )
            return


def _variance(steps: Sequence[Watched]) -> Iterator[str]:
    for step in steps:
        variance = step.log_normalizer_variance
        if variance is not None and variance > VARIANCE:
            yield (
                f"From step {step.step:,} the variance of the log-normalizer is above "
                f"{VARIANCE:g} ({variance:.3g}): {UNTESTED}."
            )
            return


def _mean_row(steps: Sequence[Watched]) -> Iterator[str]:
    known = [(s.step, s.mean_row_share) for s in steps if s.mean_row_share is not None]
    for number, (step, share) in enumerate(known):
        before = [s for s in known[:number] if step - s[0] <= STEPS and s[1] >= LEAST]
        if before and share > TIMES * min(x for _, x in before):
            start, lowest = min(before, key=lambda s: s[1])
            yield (
                f"Between steps {start:,} and {step:,} the mean row's share of W rose from "
                f"{lowest:.3g} to {share:.3g}, more than {TIMES:g} times within {STEPS:,} steps: "
                f"{UNTESTED}. A softmax does not see the mean row; centering takes it off."
            )
            return


def _rank(steps: Sequence[Watched]) -> Iterator[str]:
    """The rank alone says little, so only where the loss on held-out text rises with it."""
    highest: tuple[int, float] | None = None
    losses = [(s.step, s.valid_loss) for s in steps if s.valid_loss is not None]
    for step in steps:
        rank = step.stable_rank_centred
        if rank is None:
            continue
        if highest is None or rank > highest[1]:
            highest = step.step, rank
        since = [loss for at, loss in losses if highest[0] <= at <= step.step]
        if rank < LOST * highest[1] and len(since) > 1 and since[-1] > since[0]:
            yield (
                f"Between steps {highest[0]:,} and {step.step:,} the centred stable rank fell "
                f"from {highest[1]:.3g} to {rank:.3g} while the loss on held-out text rose from "
                f"{since[0]:.4g} to {since[-1]:.4g}: {UNTESTED}; the rank alone predicts little."
            )
            return
