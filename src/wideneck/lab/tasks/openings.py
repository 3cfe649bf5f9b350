"""The text of continuation: blocks to train on, and beginnings of documents that are held out.

Training reads one stream, the documents one after the other with the end-of-text token between
them, cut into blocks (as Wan et al. 2023 and their code).  What is measured begins where a document
begins, so that each document counts once and no memory holds another's words.

B blocks or beginnings of T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from wideneck.data.corpus import Corpus
from wideneck.data.encoded import encode_documents
from wideneck.errors import WideneckError

CHARACTERS = 32
"""More than a token stands for: of a long document no more is tokenized than is read."""
ORDER = 0
"""Seed by which documents and blocks are drawn, the same for all runs."""


class Sizes(Protocol):
    """What a recipe says of the text."""

    @property
    def window(self) -> int:
        """T."""

    @property
    def num_blocks(self) -> int | None:
        """At most; None: all."""

    @property
    def batch_size(self) -> int: ...

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""

    @property
    def fewest_new(self) -> int:
        """Tokens that must follow it."""

    @property
    def words(self) -> tuple[int, int] | None:
        """A document of so few or so many is left out; None: none is."""


@dataclass(frozen=True)
class Openings:
    """Beginnings of documents, padded on the right."""

    ids: Tensor
    """(B, T)."""
    real: Tensor
    """(B, T), False for padding."""
    documents: list[int]
    """(B,), the number of each in its split."""


def blocks(corpus: Corpus, tokenizer: Any, sizes: Sizes) -> Tensor:
    """(B, T) of the training split; what is left over at its end is not used.

    Raises:
        WideneckError: there are fewer than one step takes, or the tokenizer has no end-of-text
            token to put between documents.
    """
    name = f"{corpus.name} (train)"
    ids = encode_documents(corpus.train, tokenizer, name).ids
    cut = ids[: len(ids) // sizes.window * sizes.window].view(-1, sizes.window)
    if len(cut) < sizes.batch_size:
        raise WideneckError(
            f"The training split of {corpus.name} has {len(ids):,} tokens, and one step takes "
            f"{sizes.batch_size} blocks of {sizes.window}: give a longer text."
        )
    if sizes.num_blocks is None or len(cut) <= sizes.num_blocks:
        return cut.long()
    return cut[_drawn(len(cut))[: sizes.num_blocks].sort().values].long()


def openings(corpus: Corpus, split: str, tokenizer: Any, sizes: Sizes, number: int) -> Openings:
    """The beginnings of documents that are long enough to be continued, in an order drawn once.

    Args:
        corpus: with the split.
        split: "valid" or "test".
        tokenizer: of the model.
        sizes: see `Sizes`.
        number: how many; all where there are fewer.

    Raises:
        WideneckError: there is no such split, or it has fewer than two such documents.
    """
    documents: Sequence[str] | None = getattr(corpus, split)
    if documents is None:
        raise WideneckError(
            f"{corpus.name} has no {split} split, whose documents are to be continued: add a file "
            f"with '{split}' in its name."
        )
    needed = sizes.prompt + sizes.fewest_new
    found: list[tuple[int, list[int]]] = []
    for place in _drawn(len(documents)).tolist():
        ids = _beginning(documents[place], tokenizer, sizes)
        if len(ids) >= needed:
            found.append((place, ids))
        if len(found) == number:
            break
    if len(found) < 2:
        between = f" and {sizes.words[0]} to {sizes.words[1]} words" if sizes.words else ""
        raise WideneckError(
            f"The {split} split of {corpus.name} has {len(found)} documents of at least {needed} "
            f"tokens{between}, and two are needed: give a text with more of them."
        )
    length = max(len(ids) for _, ids in found)
    padded = torch.zeros(len(found), length, dtype=torch.long)
    real = torch.zeros(len(found), length, dtype=torch.bool)
    for row, (_, ids) in enumerate(found):
        padded[row, : len(ids)] = torch.tensor(ids)
        real[row, : len(ids)] = True
    return Openings(padded, real, [place for place, _ in found])


def _beginning(document: str, tokenizer: Any, sizes: Sizes) -> list[int]:
    """Its first T tokens; none of one whose number of words is out of bounds."""
    if sizes.words is not None and not sizes.words[0] < len(document.split()) < sizes.words[1]:
        return []
    read = document[: CHARACTERS * sizes.window]
    return tokenizer(read, add_special_tokens=False, verbose=False).input_ids[: sizes.window]


def _drawn(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(ORDER))
