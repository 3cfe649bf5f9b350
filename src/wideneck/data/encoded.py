"""A corpus as ids: what training and evaluation read.

Words by `wideneck.data.vocabulary`.  A Hugging Face tokenizer gets each document as it is, without
special tokens; its eos token stands between two documents.  A long one is cut into pieces: see
`wideneck.data.tokenizing` for what may differ.

Cost: 8 bytes per token kept.  Words: see `wideneck.data.vocabulary`.  A tokenizer: some million
characters per second and core, and a kilobyte per token of the piece it is at.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wideneck.data.config import WORDS, Data
from wideneck.data.corpus import Corpus
from wideneck.data.tokenizer import recipe_tokenizer
from wideneck.data.tokenizing import PIECE, in_one, pieces, tokenizing
from wideneck.data.vocabulary import Vocabulary
from wideneck.errors import WideneckError
from wideneck.models.tokens import token_strings


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One split of N tokens."""

    ids: Tensor
    """(N,) int64."""
    num_lines: int
    """Lines of the documents; with words, the number of `<eos>` put in."""


@dataclass(frozen=True, kw_only=True)
class EncodedCorpus:
    """The splits as ids of one vocabulary."""

    name: str
    """The corpus's."""
    train: Encoded
    valid: Encoded
    test: Encoded | None = None
    tokenizer_name: str
    """`Data.tokens`: "words", or what named the tokenizer."""
    tokenizer: Any
    """A `Vocabulary`, or a fast Hugging Face tokenizer."""
    vocab_size: int
    """V: one more than the largest id that a text can get."""
    vocabulary_sha256: str
    """Sum of the token strings by id; a checkpoint of another one does not fit."""
    sha256: str
    """Sum of the vocabulary and of the ids of every split."""

    @property
    def counts(self) -> dict[str, int]:
        """Tokens of each split that there is, and V as "vocab_size"."""
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        found = {name: len(split.ids) for name, split in splits.items() if split is not None}
        return found | {"vocab_size": self.vocab_size}


def encode_corpus(corpus: Corpus, data: Data) -> EncodedCorpus:
    """Encode every split and check the counts that `data.expect` names.

    Raises:
        WideneckError: the tokenizer cannot be loaded or lacks an eos token that is needed, a split
            has fewer than 2 tokens, or a count is not the expected one.
    """
    if data.tokens == WORDS:
        tokenizer: Any = Vocabulary.of(corpus.train, data.vocab_size)
        vocab_size = len(tokenizer)
    else:
        tokenizer = recipe_tokenizer(data.tokens)
        vocab_size = len(token_strings(tokenizer))
    sha256 = vocabulary_sha256(tokenizer)
    splits = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    encoded: dict[str, Encoded] = {}
    digest = hashlib.sha256(sha256.encode())
    for split, documents in splits.items():
        if documents is not None:
            found = encode_documents(documents, tokenizer, f"{corpus.name} ({split})")
            if len(found.ids) < 2:
                raise WideneckError(
                    f"The {split} split of {corpus.name} has {len(found.ids)} tokens; one is "
                    "predicted from another, so it needs at least 2: give a longer text."
                )
            digest.update(f"{split} {len(found.ids)} ".encode())
            digest.update(found.ids.numpy().astype("<i8", copy=False).data)
            encoded[split] = found
    whole = EncodedCorpus(
        name=corpus.name,
        **encoded,
        tokenizer_name=data.tokens,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        vocabulary_sha256=sha256,
        sha256=digest.hexdigest(),
    )
    _check_counts(corpus.name, whole.counts, data)
    return whole


def vocabulary_sha256(tokenizer: Any) -> str:
    """Sum of the token strings by id: the same for two tokenizers only if all ids agree."""
    if isinstance(tokenizer, Vocabulary):
        return tokenizer.sha256
    return hashlib.sha256(json.dumps(token_strings(tokenizer)).encode()).hexdigest()


def encode_documents(
    documents: Sequence[str], tokenizer: Any, name: str = "that was given"
) -> Encoded:
    """Encode one text with a vocabulary or tokenizer that is already there.

    Args:
        documents: as `Corpus` holds them.
        tokenizer: a `Vocabulary`, or a fast Hugging Face tokenizer.
        name: what messages call the text.

    Raises:
        WideneckError: there are two documents or more, and the tokenizer has no eos token; or it
            fails at the text.
    """
    if isinstance(tokenizer, Vocabulary):
        parts = [part for document in documents for part in tokenizer.parts(document)]
    else:
        parts = _tokenize(documents, tokenizer, name)
    return Encoded(
        ids=torch.from_numpy(in_one(parts)),
        num_lines=sum(d.count("\n") + (not d.endswith("\n")) for d in documents),
    )


def _tokenize(documents: Sequence[str], tokenizer: Any, name: str) -> list[np.ndarray]:
    eos = tokenizer.eos_token_id
    if eos is None and len(documents) > 1:
        raise WideneckError(
            f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no eos token "
            f"to put between the {len(documents)} documents of the text: set one in its "
            "tokenizer_config.json, or use another tokenizer."
        )
    parts: list[np.ndarray] = []
    for batch in _batches(documents):
        texts = [piece for piece, _ in batch]
        with tokenizing(tokenizer, name):
            rows = tokenizer(
                texts, add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            starts = ([eos] if starts else [] for _, starts in batch)
            pairs = chain.from_iterable(zip(starts, rows, strict=True))
            parts.append(np.fromiter(chain.from_iterable(pairs), np.int32))
    return parts


def _batches(documents: Sequence[str]) -> Iterator[list[tuple[str, bool]]]:
    """Pieces, some megabytes at a time, and whether each starts a document that follows another."""
    batch: list[tuple[str, bool]] = []
    size = 0
    for number, document in enumerate(documents):
        for place, piece in enumerate(pieces(document)):
            batch.append((piece, number > 0 and place == 0))
            size += len(piece)
            if size >= PIECE:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _check_counts(name: str, counts: dict[str, int], data: Data) -> None:
    for what, expected in data.expect.items():
        counted = counts.get(what)
        if counted == expected:
            continue
        unit = "words in the vocabulary" if what == "vocab_size" else f"tokens in the {what} split"
        has = f"no {what} split" if counted is None else f"{counted:,} {unit}"
        raise WideneckError(
            f"{name} has {has}, and data.expect says {expected:,}: it is another version of the "
            "text, or other settings of [data] are meant."
        )
