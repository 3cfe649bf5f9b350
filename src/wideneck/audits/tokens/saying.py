"""How likely a model is to say a token, right after a prompt and while it goes on greedily.

The rows that are run together differ in one token only, so they have one length and no padding.
Steps after the first read one token each, by the model's cache of keys and values; a model without
one reads the whole row again.  The head sees the last position only.

Cost: one pass over the tokens of each row.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.states import Progress
from wideneck.audits.tokens.prompts import filled
from wideneck.memory.layer import NAMES, cache_in
from wideneck.models import ask
from wideneck.models.batches import Batches
from wideneck.models.causality import logits_of
from wideneck.models.device_map import is_offloaded
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.reading import entering_head

STEPS = 3
TOKENS_AT_ONCE = 1024
"""Of the rows that are run together: enough to keep a processor busy, and little memory."""


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
        if not logits.isfinite().any(1).all() or not (logits < torch.inf).all():  # NaN is not, too
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
