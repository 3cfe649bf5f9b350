"""What the bottleneck leaves in doubt: tokens below a threshold that the basis certifies or not.

A threshold tau certifies tokens of p > tau; the columns of the head certify some below it
(Finlayson et al. 2024, arXiv:2310.01693; `wideneck.functional.certificates`).  Positions are taken
at equal distances from the text.  Cost: at each of them, for each threshold, eight Newton steps
over 384 tokens, and 2 V c operations for every candidate that has hope.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.measure import measure
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.states import HiddenStates, Progress
from wideneck.errors import WideneckError
from wideneck.functional.certificates import certified, span
from wideneck.models.devices import CPU

POSITIONS, DIRECTIONS, TESTED = 48, 32, 16
THRESHOLDS = 3e-4, 1e-3, 1e-2
SOFT_CAP = "a soft cap bends the space that the head's columns span"
"""Why nothing is measured under one."""


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One threshold."""

    threshold: float = measure(
        "tau: tokens with p > tau are certified by it, if no true probability is above "
        "p / (1 - tau)"
    )
    mass_below: Estimate = measure(
        "share of the probability on tokens with p <= tau, which no threshold certifies"
    )
    mass_tested: Estimate = measure(
        f"the part of mass_below on the {TESTED} most probable of these tokens, which are tested"
    )
    mass_certified: Estimate = measure(
        "the part of mass_tested on tokens that the head's columns certify, though tau does not",
        caution="a lower bound: the search uses few directions and may miss a certificate; and no "
        "sign that cutting text by it makes better text",
    )
    tokens_above: Estimate = measure("tokens at a position with p > tau")
    tokens_certified: Estimate = measure(
        "tokens at a position that the head's columns certify and tau does not"
    )


@dataclass(frozen=True, kw_only=True)
class InDoubt:
    """How much of what a threshold would cut the basis of the head vouches for."""

    num_positions: int = measure("positions, at equal distances in the text")
    num_directions: int = measure(
        "largest singular directions of the centred head that certificates are made of"
    )
    points: list[Doubt] = measure(
        "one for each threshold",
        caution="a certificate rests on W^T p being exact, which a minimum of the cross-entropy "
        "gives on average and a trained model only nearly",
    )
    skipped: str = measure("why nothing was measured; empty if it was")


@torch.no_grad()
def in_doubt(
    log_probs: Callable[[Tensor], Tensor],
    weight: Tensor,
    states: HiddenStates,
    progress: Progress | None = None,
) -> InDoubt:
    """Certify at some positions of the states.

    Args:
        log_probs: (n, D) -> (n, V), or scores that a softmax makes probabilities of.
        weight: the matrix (V, E) that those are linear in.

    Raises:
        UnmeasurableError: probabilities, or the head's squares, are not finite.
    """
    shape = states.targets.shape
    hidden = states.hidden.flatten(0, 1)
    pick = torch.linspace(0, len(hidden) - 1, min(len(hidden), POSITIONS)).round().long().unique()
    try:
        # Some positions, one after another, in float64: an accelerator would wait for each.
        directions = span(weight, DIRECTIONS).to(CPU)
    except WideneckError as error:
        raise UnmeasurableError(str(error)) from error
    found = torch.zeros(len(THRESHOLDS), 5, len(hidden), dtype=torch.float64)
    for done, position in enumerate(pick.tolist()):
        scores = log_probs(hidden[position : position + 1])[0]
        prob = scores.to(CPU, torch.float64).softmax(0)
        if not bool(prob.isfinite().all()):
            raise UnmeasurableError("some log-probabilities are not finite")
        for k, tau in enumerate(THRESHOLDS):
            found[k, :, position] = _at(prob, directions, tau)
        if progress:
            progress("tokens left in doubt", done + 1, len(pick))
    counted = torch.zeros(len(hidden), dtype=torch.bool)
    counted[pick] = True

    def mean(values: Tensor) -> Estimate:
        return estimate(values.view(shape), states.document, counted.view(shape))

    points = [
        Doubt(
            threshold=tau,
            mass_below=mean(values[0]),
            mass_tested=mean(values[1]),
            mass_certified=mean(values[2]),
            tokens_above=mean(values[3]),
            tokens_certified=mean(values[4]),
        )
        for tau, values in zip(THRESHOLDS, found, strict=True)
    ]
    return InDoubt(
        num_positions=len(pick),
        num_directions=directions.shape[1],
        points=points,
        skipped="",
    )


def _at(prob: Tensor, directions: Tensor, tau: float) -> Tensor:
    """The five numbers of a `Doubt` at one position."""
    tokens, good = certified(prob, directions, tau, most=TESTED)
    above, tested = prob > tau, prob[tokens]
    masses = [prob[~above].sum(), tested.sum(), tested[good].sum()]
    return torch.stack([*masses, above.sum().double(), good.sum().double()])
