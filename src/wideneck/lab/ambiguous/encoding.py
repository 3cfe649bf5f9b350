"""Prompts to ids, for training and for `needed_k`.

What differs between vocabularies is behind `Encoding`: `Vocabulary`, one token a word, for models
trained from scratch, and `Pieces`, any tokenizer of Hugging Face.  Nothing is padded.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.lab.ambiguous.instances import Prompt

IGNORE = -100
"""The label of a token that is not trained on."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of training: T ids, and T labels that stand at the ids they name, not shifted."""

    ids: list[int]
    labels: list[int]
    """`IGNORE`, but for the pieces of the label, which end the row (Wan et al.'s code)."""


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


def encode_rows(encoding: Encoding, prompts: Sequence[Prompt]) -> list[Example]:
    """The two rows of each prompt, in order: labelled x, then y."""
    words = dict.fromkeys(word for prompt in prompts for word in prompt.words)
    targets = {word: encoding.target_ids(word) for word in words}
    texts = encoding.prompt_ids([prompt.text for prompt in prompts])
    return [
        Example(ids + targets[word], [IGNORE] * len(ids) + targets[word])
        for ids, prompt in zip(texts, prompts, strict=True)
        for word in prompt.words
    ]


def accepted_ids(encoding: Encoding, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """Ids accepted for the x and for the y of each prompt, both (N, A), padded with -1."""
    words = dict.fromkeys(word for prompt in prompts for word in prompt.words)
    ids = {word: encoding.accepted_ids(word) for word in words}
    longest = max(map(len, ids.values()), default=1)
    padded = {word: some + [-1] * (longest - len(some)) for word, some in ids.items()}
    both = torch.tensor(
        [[padded[word] for word in prompt.words] for prompt in prompts], dtype=torch.int64
    ).reshape(len(prompts), 2, longest)
    return both[:, 0], both[:, 1]
