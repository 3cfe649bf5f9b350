"""Whether a model can say its suspicious tokens: the verification of Land & Bartolo (2024).

Geometry says where a row lies, and not what the model does with it.  So each of the tokens is asked
for by the prompts of `audits.tokens.prompts`, and the model goes on greedily for three steps; the
largest probability that the token has at any step, over all prompts, is what is told.

The rows that are run together differ in one token only, so they have one length and no padding.
Steps after the first read one token each, by the model's cache of keys and values; a model without
one reads the whole row again.

Cost: one pass over some 190 tokens for each token asked for, and a head of one position for each
prompt and step.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.argmaxable.result import TokenRef
from wideneck.audits.measure import measure
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.states import Progress
from wideneck.audits.tokens.prompts import PROMPTS, encoded, filled
from wideneck.memory.layer import NAMES, cache_in
from wideneck.models import LoadedModel, ask
from wideneck.models.batches import Batches
from wideneck.models.causality import logits_of
from wideneck.models.device_map import is_offloaded
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.reading import entering_head

STEPS = 3
TOKENS_AT_ONCE = 1024
"""Of the rows that are run together.  On a CPU more are no faster a token."""
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


@torch.no_grad()
def probabilities(
    model: Any,
    tokens: Sequence[int],
    prompts: Sequence[Sequence[int | None]],
    *,
    batch: int | None = None,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> Tensor:
    """P(token) at each greedy step after each prompt: (tokens, prompts, STEPS), float64.

    Args:
        model: a causal language model of transformers, in eval mode.
        tokens: ids.
        prompts: as `encoded` gives them.
        batch: rows to run at once; None for what suits the model.
        ranks: the processes that share the rows.
        progress: called as progress(stage, done, total).

    Raises:
        UnmeasurableError: logits that are not finite, of which no probability is made.
        WideneckError: the model does not run on these prompts.
    """
    work: list[tuple[Batches, int, range]] = []
    for number, prompt in enumerate(prompts):
        length = len(prompt) + STEPS - 1
        asked = batch
        if asked is None and not is_offloaded(model):
            asked = max(1, TOKENS_AT_ONCE // length)
        batches = Batches(model, asked, length)
        work += [(batches, number, rows) for rows in batches.groups([length] * len(tokens))]

    def done(i: int) -> list[list[float]]:
        batches, number, rows = work[i]

        def run(some: Sequence[int]) -> list[list[float]]:
            entering.calls.clear()
            these = [tokens[row] for row in some]
            return _steps(model, filled(prompts[number], these), torch.tensor(these)).tolist()

        return batches.read(rows, run)

    shared = ranks if ranks.world <= len(work) else ALONE
    found = torch.empty(len(tokens), len(prompts), STEPS, dtype=torch.float64)
    with entering_head(model, last=1) as entering:
        for i, given in enumerate(shared.in_order(len(work), done)):
            _, number, rows = work[i]
            found[rows.start : rows.stop, number] = torch.tensor(given, dtype=torch.float64)
            if progress:
                progress("asking for tokens", i + 1, len(work))
    return found


def _steps(model: Any, ids: Tensor, tokens: Tensor) -> Tensor:
    """(B, STEPS): P(token of the row), while each row (B, T) goes on greedily."""
    known = inspect.signature(model.forward).parameters
    names = [name for name in NAMES if name in known]
    unread, given, probs = ids, {}, []
    for step in range(STEPS):
        result = ask(model, input_ids=unread, use_cache=bool(names), **given)
        logits = logits_of(result)[:, -1]
        if not logits.isfinite().any(1).all() or logits.isnan().any():
            raise UnmeasurableError(f"{type(model).__name__} gives logits that are no numbers")
        log_probs = logits.log_softmax(1)
        probs.append(log_probs.gather(1, tokens.to(logits.device)[:, None]).exp())
        if step == STEPS - 1:
            break
        chosen = logits.argmax(1, keepdim=True).to(ids.device)
        ids = torch.cat([ids, chosen], 1)
        cache = cache_in(result)
        given = {names[0]: cache} if names and cache is not None else {}
        unread = chosen if given else ids
    return torch.cat(probs, 1)
