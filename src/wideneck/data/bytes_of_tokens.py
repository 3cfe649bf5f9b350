"""How many bytes of a text each of its tokens stands for: what bits per byte divide by.

A token has the bytes from the end of the token before it to its own: a word the white space in
front of it, an `<eos>` of words its line end, and what is put between documents nothing.

Cost: the text is tokenized once more; 4 bytes per token.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wideneck.data.tokenizing import ids_and_ends, in_one
from wideneck.data.vocabulary import WORD, Vocabulary


def token_bytes(documents: Sequence[str], tokenizer: Any, name: str = "that was given") -> Tensor:
    """UTF-8 bytes of each token, (N,) int32, N as `encode_documents` gives them.

    Args:
        documents: as `Corpus` holds them.
        tokenizer: a `Vocabulary`, or a fast Hugging Face tokenizer.
        name: what messages call the text.

    Raises:
        WideneckError: as `encode_documents`.
    """
    parts: list[np.ndarray] = []
    for number, document in enumerate(documents):
        if isinstance(tokenizer, Vocabulary):
            parts.append(np.fromiter(_of_words(document), np.int32))
            continue
        if number:
            parts.append(np.zeros(1, np.int32))  # of the eos token between two documents
        _, ends = ids_and_ends(tokenizer, document, name)
        parts.append(np.diff(_places(document)[ends], prepend=0))
    return torch.from_numpy(in_one(parts, np.int32))


def _of_words(document: str) -> Iterator[int]:
    before = 0
    for word in WORD.finditer(document):
        yield len(document[before : word.end()].encode())
        before = word.end()
    if document and not document.endswith("\n"):
        yield len(document[before:].encode())


def _places(document: str) -> np.ndarray:
    """(n + 1,): of each character of a document, the bytes in front of it; and all of them."""
    code = np.frombuffer(document.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = 1 + (code > 0x7F).astype(np.int32) + (code > 0x7FF) + (code > 0xFFFF)
    return np.concatenate([[0], np.cumsum(sizes)])
