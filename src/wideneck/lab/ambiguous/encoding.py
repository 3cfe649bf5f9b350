"""Prompts to ids: the rows to train on and the prompts to be tested on, for one seed.

What differs between vocabularies is behind `Encoding`: `Vocabulary`, one token a word, for models
trained from scratch, and `Pieces`, any tokenizer of Hugging Face.  Nothing is padded.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.splits import SPLITS
from wideneck.lab.ambiguous.words import TEMPLATES, Analogies, Prompt, make_prompts
from wideneck.models.language_model import bos_of

IGNORE = -100
"""The label of a token that is not trained on."""
BOS = "<bos>"
ANCHOR = "the"
"""A word in front of a target, for tokenizers that treat the start of a text in their own way."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of training: T ids, and T labels that stand at the ids they name, not shifted."""

    ids: list[int]
    labels: list[int]
    """`IGNORE`, but for the pieces of the label, which end the row (Wan et al.'s code)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One split, encoded."""

    rows: list[Example]
    """The training rows, repeated ones included."""
    prompts: list[list[int]]
    """Ids of N distinct prompts of the test part, in random order."""
    first: Tensor
    """(N, A), ids accepted for the one word of each."""
    second: Tensor
    """(N, A), for the other."""
    targets: list[tuple[int, int]]
    """The first piece of both, as it follows the prompt."""


class Encoding(ABC):
    """How words become ids."""

    @abstractmethod
    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, a token for the beginning in front."""

    @abstractmethod
    def target_ids(self, word: str) -> list[int]:
        """All pieces of a word that goes on from a prompt, so after a space."""

    @abstractmethod
    def accepted_ids(self, word: str) -> list[int]:
        """Distinct ids that count as the word when they are predicted."""


def make_task(
    analogies: Analogies, encoding: Encoding, split: str, seed: int, num_test_prompts: int
) -> Task:
    """Split by one of `SPLITS`, encode, and draw prompts of the test; all where there are fewer.

    The seed decides the split and the draw.
    """
    parts = SPLITS[split](analogies, seed)
    distinct = list({prompt.text: prompt for prompt in make_prompts(parts.test)}.values())
    drawn: list[Prompt] = random.Random(seed).sample(distinct, min(num_test_prompts, len(distinct)))
    first, second = accepted_ids(encoding, drawn)
    return Task(
        rows=encode_rows(encoding, make_prompts(parts.train)),
        prompts=encoding.prompt_ids([prompt.text for prompt in drawn]),
        first=first,
        second=second,
        targets=[
            (encoding.target_ids(x)[0], encoding.target_ids(y)[0])
            for x, y in (prompt.words for prompt in drawn)
        ],
    )


def encode_rows(encoding: Encoding, prompts: Sequence[Prompt]) -> list[Example]:
    """The two rows of each prompt, in order: labelled x, then y."""
    target_ids = cache(encoding.target_ids)
    texts = encoding.prompt_ids([prompt.text for prompt in prompts])
    return [
        Example(ids + target_ids(word), [IGNORE] * len(ids) + target_ids(word))
        for ids, prompt in zip(texts, prompts, strict=True)
        for word in prompt.words
    ]


def accepted_ids(encoding: Encoding, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """Ids accepted for the x and for the y of each prompt, both (N, A), padded with -1."""
    ids_of = cache(encoding.accepted_ids)
    ids = [ids_of(word) for prompt in prompts for word in prompt.words]
    longest = max(map(len, ids), default=1)
    padded = [some + [-1] * (longest - len(some)) for some in ids]
    both = torch.tensor(padded, dtype=torch.int64).view(len(prompts), 2, longest)
    return both[:, 0], both[:, 1]


@final
class Vocabulary(Encoding):
    """One token a word, upper and lower case kept apart: `bos`, the templates', the analogies'.

    The order is that of occurrence, so equal files give equal ids.  It takes whole analogies, not
    a part of a split: words that are only in the test have ids as well.
    """

    def __init__(self, analogies: Analogies):
        texts = [text.format(x="", y="") for some in TEMPLATES.values() for text in some]
        known = [word for text in texts for word in text.split()]
        known += [
            word
            for questions in analogies.values()
            for question in questions
            for pair in question.pairs
            for word in pair
        ]
        self.words = list(dict.fromkeys([BOS, *known]))
        """The word of every id."""
        self.bos = 0
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.bos, *map(self._id, text.split())] for text in texts]

    def target_ids(self, word: str) -> list[int]:
        return [self._id(word)]

    accepted_ids = target_ids

    def _id(self, word: str) -> int:
        if word not in self._ids:
            raise WideneckError(
                f"The vocabulary of {len(self)} words has no {word!r}; make it from the analogies "
                "that the prompts come from."
            )
        return self._ids[word]


@final
class Pieces(Encoding):
    """A tokenizer's ids: all pieces of a label are trained on, only the first is evaluated.

    In front stands what the tokenizer itself puts there, or else its bos or eos token; nothing
    that it adds at the end of a text.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.prefix = bos_of(tokenizer)
        if not self.prefix:
            marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
            self.prefix = [mark for mark in marks if mark is not None][:1]
        if not self.prefix:
            raise WideneckError(
                f"{type(tokenizer).__name__} has neither a bos nor an eos token to put in front of "
                "a prompt; set tokenizer.bos_token."
            )

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        plain = self.tokenizer(list(texts), add_special_tokens=False).input_ids
        return [self.prefix + ids for ids in plain]

    def target_ids(self, word: str) -> list[int]:
        anchor, whole = self._plain(ANCHOR), self._plain(f"{ANCHOR} {word}")
        if whole[: len(anchor)] != anchor or len(whole) == len(anchor):
            raise WideneckError(
                f"{type(self.tokenizer).__name__} does not keep {ANCHOR!r} apart from the "
                f"{word!r} that follows it, so the pieces of a label are unknown."
            )
        return whole[len(anchor) :]

    def accepted_ids(self, word: str) -> list[int]:
        """The first piece of " w" and of "w"; often one id.

        A first piece that is a bare space or unknown would be that of every word, and any model
        right: that is refused.
        """
        ids = list(dict.fromkeys([self.target_ids(word)[0], *self._plain(word)[:1]]))
        for i in ids:
            if i == self.tokenizer.unk_token_id or not self.tokenizer.decode([i]).strip():
                raise WideneckError(
                    f"The first piece that {type(self.tokenizer).__name__} makes of {word!r}, "
                    f"{self.tokenizer.convert_ids_to_tokens(i)!r}, says nothing of the word, so "
                    "an accuracy would mean nothing; use another tokenizer."
                )
        return ids

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)
