"""The measures of continuations: how they repeat themselves, and whether they follow their prompt.

A text is read as it stands: its tokens are those that the judge's tokenizer makes of it.  What is
said of a text and its prompt is less what the same text would get with prompts that are not its
own, so that a text of common words gains nothing:

- pmi: mean over the text's tokens but the first of log p(token | prompt, tokens before), in nats,
  less the same with the prompt before.
- cosine: of the mean states of prompt and text, each read by itself, after the means over all
  prompts and over all texts are subtracted; less the mean over all other prompts.
- words: share of content words that stand in the prompt; less the mean over all others.

N prompts of P tokens.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from wideneck.lab.tasks.coherence import cosines, others, read, rep_window, words
from wideneck.lab.tasks.measures import GRAMS, diversity, repetition
from wideneck.lab.tasks.trial import Measured
from wideneck.models import evaluating

Values = list[float | None]


@final
class Measuring:
    """Prompts with a judge, the model before it was trained."""

    def __init__(self, judge: Any, tokenizer: Any, prompts: Tensor, common: frozenset[str]):
        """Everything that texts are measured with.

        Args:
            judge: a causal language model.
            tokenizer: its own.
            prompts: (N, P), all of other documents.
            common: words that are no content.
        """
        self.judge, self.tokenizer, self.common = judge, tokenizer, common
        self.prompts = prompts.to(judge.device)
        self.words = [set(words(text)) for text in tokenizer.batch_decode(prompts)]

    def __call__(self, texts: Sequence[str]) -> Measured:
        """Measures of N texts, or of several times N, each N in the order of the prompts."""
        number = len(self.prompts)
        found: dict[str, Values] = defaultdict(list)
        for start in range(0, len(texts), number):
            for name, values in self._one_each(texts[start : start + number]).items():
                found[name] += values
        return Measured(dict(found))

    @torch.no_grad()
    def _one_each(self, texts: Sequence[str]) -> dict[str, Values]:
        ids = [self.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        with evaluating(self.judge):
            pmi, states = self._read(ids)
            return {
                "tokens": [float(len(row)) for row in ids],
                "diversity": [diversity(row) if row else None for row in ids],
                **{f"rep-{n}": [repetition(row, n) if row else None for row in ids] for n in GRAMS},
                "rep-w": [rep_window(row) if row else None for row in ids],
                "pmi": pmi,
                "cosine": self._cosines(states),
                "prompt_words": words_of_prompt(texts, self.words, self.common),
            }

    @cached_property
    def states(self) -> Tensor:
        """(N, D), of the prompts."""
        return read(self.judge, self.prompts, 0)[1]

    def _read(self, ids: Sequence[list[int]]) -> tuple[Values, dict[int, Tensor]]:
        """The pmi of each text, and the states of those that have any.

        What a text is worth without a prompt is the same on both sides and cancels.
        """
        pmi: Values = [None] * len(ids)
        states: dict[int, Tensor] = {}
        others = self.prompts.roll(1, 0)
        by_length: dict[int, list[int]] = defaultdict(list)
        for place, row in enumerate(ids):
            by_length[len(row)].append(place)
        for length, places in by_length.items():
            if length < 2:  # the first token is not scored, and has no state
                continue
            rows = torch.tensor([ids[place] for place in places], device=self.prompts.device)
            own, other = (
                read(self.judge, torch.cat([given[places], rows], 1), length)[0].mean(1)
                for given in (self.prompts, others)
            )
            state = read(self.judge, rows, 0)[1]
            for k, place in enumerate(places):
                pmi[place] = (own[k] - other[k]).item()
                states[place] = state[k]
        return pmi, states

    def _cosines(self, states: dict[int, Tensor]) -> Values:
        found: Values = [None] * len(self.prompts)
        if len(states) < 2:
            return found
        table = cosines(self.states[list(states)], torch.stack(list(states.values())))
        for place, value in zip(states, (table.diag() - others(table)).tolist(), strict=True):
            found[place] = value
        return found


def words_of_prompt(
    texts: Sequence[str], prompts: Sequence[set[str]], common: frozenset[str]
) -> Values:
    """Share of a text's content words that stand in its prompt, less the mean over all others.

    None for a text without content words.  The others are counted together, so the time does not
    grow with the square of the texts.
    """
    in_prompts = Counter(word for prompt in prompts for word in prompt)
    found: Values = []
    for text, own in zip(texts, prompts, strict=True):
        content = [word for word in words(text) if word not in common]
        inside = sum(word in own for word in content)
        outside = (sum(in_prompts[word] for word in content) - inside) / (len(prompts) - 1)
        found.append((inside - outside) / len(content) if content else None)
    return found
