"""Measures of continuations: repetition, and whether they follow from their prompt.

A language model judges the latter, by three measures, each beside what it gives for prompts that
are not the continuation's own:

- pmi: mean over tokens of log p(token | prompt, tokens before) - log p(token | tokens before), in
  nats, but for the first token, which has nothing before it.  Mismatched: the prompt before.
- cosine: of the mean states of prompt and continuation, each read by itself, after the means over
  all prompts and over all continuations are subtracted.  Mismatched: the mean of all others.
- words: share of content words that stand in the prompt.  Mismatched: the mean of all others.

The states are those that the last layer reads: of the 60 validation articles of WikiText-2, they
find 73 % of the continuations by their prompts, the most of all layers.  First tokens, whose
states are huge and all alike, are left out.

N prompts of P tokens, continuations of C.  For texts of unequal lengths there is `pmi`.
"""

import re
from collections import Counter
from collections.abc import Sequence, Set
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.lab.tasks.measures import GRAMS, diversity, repetition

ROWS = 8
"""Texts that are judged at a time."""
WINDOW = 16
"""Tokens that `rep_window` looks back."""
WORD = re.compile(r"[^\W\d_]{2,}")


@torch.no_grad()
def judged(
    judge: Any, tokenizer: Any, prompts: Tensor, continuations: Tensor, common: frozenset[str]
) -> dict[str, list]:
    """Every measure of every continuation."""
    alone, states = read(judge, continuations, continuations.shape[1])
    own, other = (
        (read(judge, torch.cat([given, continuations], 1), continuations.shape[1])[0] - alone)
        for given in (prompts, prompts.roll(1, 0))
    )
    prompt_states = read(judge, prompts, 0)[1]
    cosine = cosines(prompt_states, states)
    texts = tokenizer.batch_decode(continuations)
    words = shares(tokenizer.batch_decode(prompts), texts, common)
    tokens = continuations.tolist()
    found = {
        "diversity": [diversity(row) for row in tokens],
        **{f"rep-{n}": [repetition(row, n) for row in tokens] for n in GRAMS},
        "rep-w": [rep_window(row) for row in tokens],
        "pmi": own.mean(1).tolist(),
        "pmi mismatched": other.mean(1).tolist(),
    }
    for name, table in (("cosine", cosine), ("words", words)):
        found |= {name: table.diag().tolist(), f"{name} mismatched": others(table).tolist()}
    return found


@torch.no_grad()
def read(judge: Any, ids: Tensor, num_scored: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N, num_scored - 1) of the last tokens but the first of them, and states.

    The states (N, D) are means over all tokens but the first.
    """
    log_probs, states = [], []
    for rows in ids.split(ROWS):
        keep = max(1, num_scored)
        result = judge(
            input_ids=rows, use_cache=False, logits_to_keep=keep, output_hidden_states=True
        )
        states.append(result.hidden_states[-2][:, 1:].mean(1))
        wide = torch.promote_types(result.logits.dtype, torch.float32)
        scores = F.log_softmax(result.logits[:, :-1].to(wide), dim=-1)
        target = rows[:, rows.shape[1] - keep + 1 :]
        log_probs.append(scores.gather(-1, target[..., None])[..., 0])
    return torch.cat(log_probs), torch.cat(states)


def cosines(prompts: Tensor, continuations: Tensor) -> Tensor:
    """(N, N), of every prompt with every continuation, both (N, D), about their means."""
    one, two = (F.normalize(x - x.mean(0), dim=-1) for x in (prompts, continuations))
    return one @ two.T


def shares(prompts: list[str], continuations: list[str], common: frozenset[str]) -> Tensor:
    """(N, N) `shared_words` of every prompt with every continuation."""
    return torch.tensor([[shared_words(c, p, common) for c in continuations] for p in prompts])


def others(table: Tensor) -> Tensor:
    """(N,): for each continuation the mean over the prompts of all others, from (N, N)."""
    return (table.sum(0) - table.diag()) / (len(table) - 1)


def others_before(sources: Sequence[Any]) -> list[int | None]:
    """For each source the place of the last before it that is another one; None: all are equal.

    Before the first stands the end.  Several texts may be written from one source, so the
    neighbour need not be another.
    """
    count = len(sources)
    found: list[int | None] = [None] * count
    last: int | None = None
    for i in range(2 * count):  # twice, as the other of the first is near the end
        before, here = (i - 1) % count, i % count
        if sources[before] != sources[here]:
            last = before
        found[here] = last
    return found


def rep_window(tokens: Sequence[int], window: int = WINDOW) -> float:
    """Share of the tokens that stand among the `window` before them (rep-w, Fu et al. 2021)."""
    hits = [token in tokens[max(0, i - window) : i] for i, token in enumerate(tokens)]
    return sum(hits) / len(hits) if hits else 0.0


def common_words(texts: Sequence[str], count: int) -> frozenset[str]:
    """The most frequent words, which say little of what a text is about, and "unk"."""
    counts = Counter(word for text in texts for word in words(text))
    return frozenset([word for word, _ in counts.most_common(count)] + ["unk"])


def words(text: str) -> list[str]:
    """Runs of two letters or more, in lower case."""
    return WORD.findall(text.lower())


def shared_words(continuation: str, prompt: str, common: Set[str]) -> float:
    """Share of the continuation's content words that stand in the prompt; 0 where it has none."""
    content = [word for word in words(continuation) if word not in common]
    known = set(words(prompt))
    return sum(word in known for word in content) / len(content) if content else 0.0
