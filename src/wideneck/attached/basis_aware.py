"""Truncation of what is sampled that knows the basis of the head (Finlayson et al. 2024).

arXiv:2310.01693.  A token stays where a threshold or a certificate shows that it has true
probability, if the head has done its work; see `wideneck.functional.certificates`.
"""

from typing import Any, final

import torch
from torch import Tensor
from transformers import LogitsProcessor

from wideneck.errors import WideneckError
from wideneck.functional.certificates import certified, span
from wideneck.models import measure_logit_map, read_head
from wideneck.models.devices import CPU, multiplies

KINDS = ("epsilon_cutoff", "eta_cutoff", "min_p")


@final
class BasisAwareTruncation(LogitsProcessor):
    """A processor for `model.generate(..., logits_processor=[BasisAwareTruncation(model, ...)])`.

    A token stays if its probability p_i is above the threshold tau, or if it is among the
    `max_candidates` most probable others and some vector of the head's columns certifies it.  All
    others are cut: those that are not tested are never let through, so the probability that is cut
    without a test is what these others hold.  The most probable tokens always stay.  No random
    numbers are drawn.  The paper tests tokens in the order in which they are drawn, by a linear
    program; a processor does not see the draw.

    tau is as in transformers, of which exactly one is given:

    - epsilon_cutoff: tau = epsilon;
    - eta_cutoff: tau = min(epsilon, sqrt(epsilon) exp(-entropy of p));
    - min_p: tau = min_p times the largest p.

    p is the softmax of the scores that come in, so they must be the model's own.  `generate` runs
    the processors that it makes itself for penalties and bans first, then those of
    `logits_processor` in their order, and the temperature, top-k and top-p after them.  So leave
    penalties out, and pass processors that ban tokens behind this one in the list.  Scores of
    -inf, which a ban leaves, are refused; a penalty cannot be noticed.

    Args:
        model: a causal language model of transformers in memory; its head is read once, so make
            another processor when its weights have changed.
        directions: c, singular directions of the head that certificates are made of.
        max_candidates: tokens at or below tau that are tested at each step, for each sequence.
        min_tokens_to_keep: most probable tokens that always stay; 2 or more where beams sample.

    Cost: once 2 V D^2 operations in float64; holds V c float64 numbers.  At each step, for each
        sequence, 2 V c operations a candidate that has hope, and eight small Newton steps.

    Raises:
        WideneckError: the model mixes softmaxes, has a memory, or bends its scores, as by a soft
            cap; a threshold out of range, or not one of three.
    """

    def __init__(
        self,
        model: Any,
        *,
        epsilon_cutoff: float | None = None,
        eta_cutoff: float | None = None,
        min_p: float | None = None,
        directions: int = 32,
        max_candidates: int = 16,
        min_tokens_to_keep: int = 1,
    ):
        given = dict(zip(KINDS, (epsilon_cutoff, eta_cutoff, min_p), strict=True))
        self.kind, self.cutoff = _one(given)
        self.max_candidates = _count("max_candidates", max_candidates)
        self.min_tokens_to_keep = _count("min_tokens_to_keep", min_tokens_to_keep)
        count = _count("directions", directions)
        head = read_head(model)
        if head.form.has_memory or not head.form.config.linear:
            what = "a memory" if head.form.has_memory else f"a {head.form.name} head"
            raise WideneckError(
                f"{head.model} has {what}, and basis-aware truncation is known for one softmax of "
                "scores that are linear in the head's matrix alone."
            )
        if not measure_logit_map(model).is_linear:
            raise WideneckError(
                f"{head.model} caps its scores softly, which bends the space that its columns "
                "span: basis-aware truncation is known for scores that are linear in the matrix."
            )
        self.directions = span(head.weight, count)

    @torch.no_grad()
    def __call__(self, input_ids: Any, scores: Tensor) -> Tensor:
        """Scores (B, V) with -inf for what is cut."""
        if scores.shape[-1] != len(self.directions):
            raise WideneckError(
                f"This BasisAwareTruncation was made for {len(self.directions):,} tokens, got "
                f"scores of {scores.shape[-1]:,}: make it from the model that generates."
            )
        if not bool(scores.isfinite().all()):
            raise WideneckError(
                "BasisAwareTruncation needs the model's own scores, and some that came are not "
                "finite, as another processor leaves those of tokens that it bans: pass that "
                "processor behind this one in logits_processor."
            )
        place = scores.device if multiplies(scores.device, torch.float64) else CPU
        self.directions = self.directions.to(place)
        kept = [self._kept(row) for row in scores.to(place, torch.float64).softmax(-1)]
        return scores.masked_fill(~torch.stack(kept).to(scores.device), -torch.inf)

    def threshold(self, prob: Tensor) -> float:
        """Tau for the probabilities (V,) of one step."""
        if self.kind == "epsilon_cutoff":
            return self.cutoff
        if self.kind == "min_p":
            return self.cutoff * float(prob.max())
        entropy = -torch.xlogy(prob, prob).sum()
        return min(self.cutoff, self.cutoff**0.5 * float((-entropy).exp()))

    def _kept(self, prob: Tensor) -> Tensor:
        tau = self.threshold(prob)
        tokens, found = certified(prob, self.directions, tau, most=self.max_candidates)
        kept = prob > tau
        kept[tokens[found]] = True
        kept[prob.topk(min(self.min_tokens_to_keep, len(prob))).indices] = True
        return kept


def _one(given: dict[str, float | None]) -> tuple[str, float]:
    asked = {name: value for name, value in given.items() if value is not None}
    if len(asked) != 1:
        raise WideneckError(
            f"BasisAwareTruncation needs one of {', '.join(KINDS)}, got "
            f"{' and '.join(asked) or 'none'}."
        )
    ((name, value),) = asked.items()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < 1):
        raise WideneckError(f"{name} is a number above 0 and below 1, got {value!r}.")
    return name, float(value)


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WideneckError(
            f"BasisAwareTruncation needs a whole number of at least 1 for {name}, got {value!r}."
        )
    return value
