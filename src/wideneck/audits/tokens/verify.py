"""Whether a model can say its suspicious tokens: the verification of Land & Bartolo (2024).

Geometry says where a row lies, and not what the model does with it.  So each of the tokens is asked
for by the prompts of `audits.tokens.prompts`, and the model goes on greedily for three steps; the
largest probability that the token has at any step, over all prompts, is what is told.

Cost: one pass over some 160 tokens for each token asked for, and a head of one position for each
prompt and step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.argmaxable.result import TokenRef
from wideneck.audits.measure import measure
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.states import Progress
from wideneck.audits.tokens.prompts import PROMPTS, encoded
from wideneck.audits.tokens.saying import STEPS, probabilities
from wideneck.models import LoadedModel
from wideneck.models.ranks import ALONE, Ranks

FOUND = 0.01
"""Below this the token is counted as one that the model cannot say, as in the paper's reports."""
LABELS = ("strongly verified", "weakly verified", "weakly rejected", "strongly rejected")
BETWEEN = (0.001, 0.1, 0.9)
"""What is suspected is verified up to the second, rejected above it."""


@dataclass(frozen=True, kw_only=True)
class VerifiedToken(TokenRef):
    """A suspicious token, and how likely the model was to say it when it was asked to."""

    prob: float = measure(
        "the largest probability of the token over the three prompts and the three greedy steps "
        "after each"
    )
    label: str = measure(
        "strongly verified below .001 (the model cannot say it), weakly verified up to .1, weakly "
        "rejected up to .9, strongly rejected above (the model says it)",
        caution="what the model can say it may never have seen in training: a token is copied by "
        "its input row, too. What it cannot say it may know as input",
    )
    prompt: str = measure(f"the prompt that gave it: {', '.join(PROMPTS)}")


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What the model did when it was asked for its most suspicious tokens (Land & Bartolo 2024)."""

    num_tokens: int = measure("tokens asked for, the most suspicious ones")
    num_found: int = measure(
        "of them, those whose probability stayed below .01, the count of the paper's reports"
    )
    by_label: dict[str, int] = measure("how many have each label")
    order: str = measure("what suspicion is measured by", default="the order given")
    tokens: list[VerifiedToken] = measure(
        "the tokens, the most suspicious first; the prompts are plain text, also for a model with "
        "a chat template"
    )


def verify(
    loaded: LoadedModel,
    suspects: Sequence[int],
    strings: Sequence[str | None] | None,
    *,
    batch: int | None = None,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> Verification:
    """Ask a model for tokens, and label them.

    Args:
        loaded: in eval mode, within `evaluating`.
        suspects: ids.
        strings: the tokenizer's strings by id.
        batch: rows to run at once; None for what suits the model.
        ranks: the processes that share the rows.
        progress: called as progress(stage, done, total).

    Raises:
        UnmeasurableError: a prompt is longer than the model has positions for; its logits are not
            finite.
        WideneckError: the tokenizer does not encode the prompts, or the model does not run on them.
    """
    prompts = encoded(loaded.tokenizer, loaded.bos)
    longest, limit = max(map(len, prompts.values())) + STEPS - 1, loaded.max_positions
    if limit is not None and longest > limit:
        raise UnmeasurableError(
            f"the prompts have up to {longest} tokens with what follows them, and the model has "
            f"positions for {limit}"
        )
    probs = probabilities(
        loaded.model, suspects, list(prompts.values()), batch=batch, ranks=ranks, progress=progress
    )
    names, known = list(prompts), strings or ()
    tokens = [
        VerifiedToken(
            token=token,
            string=known[token] if token < len(known) else None,
            prob=float(by_prompt.max()),
            label=label_of(float(by_prompt.max())),
            prompt=names[int(by_prompt.argmax())],
        )
        for token, by_prompt in zip(suspects, probs.amax(2), strict=True)
    ]
    return Verification(
        num_tokens=len(tokens),
        num_found=sum(token.prob < FOUND for token in tokens),
        by_label={label: sum(token.label == label for token in tokens) for label in LABELS},
        tokens=tokens,
    )


def label_of(prob: float) -> str:
    """The label of a probability: > .9, > .1, or < .001, and what lies between."""
    below, rejected, strongly = BETWEEN
    if prob > strongly:
        return LABELS[3]
    if prob > rejected:
        return LABELS[2]
    return LABELS[0] if prob < below else LABELS[1]
