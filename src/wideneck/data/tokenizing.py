"""Running a stranger's tokenizer: in pieces, and inside the boundary.

A long document is cut as `pieces` cuts it, so that what is made of one piece at a time stays small.
Where one piece ends and the next begins, tokens may differ from those of the document in one piece:
of a tokenizer that puts a space in front of every text, and in lines so long that they are cut too.

Cost: some million characters per second and core; a tokenizer holds a kilobyte per token of the
piece it is at, and 8 bytes per token are kept.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from wideneck.files.boundary import reading

PIECE = 2**16
"""Characters.  A tokenizer holds a kilobyte per token of what it is at, and a text may have a token
for every byte."""
LINE = re.compile(r"\n(?=\S)")
"""A line end that no tokenizer joins with what follows: some have a token for several of them."""
WORD = re.compile(r"\s(?=\S)")


def ids_and_ends(
    tokenizer: Any, document: str, name: str, enough: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of a document, without special ones.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        document: a text.
        name: what messages call the text it is from.
        enough: the rest is not read once there are that many tokens; None for all.

    Returns:
        The ids (n,) int32, and for each the character of the document at which it ends, (n,) int32.

    Raises:
        WideneckError: the tokenizer fails, in whatever way.
    """
    ids: list[np.ndarray] = []
    ends: list[np.ndarray] = []
    before = count = 0
    for piece in pieces(document):
        if enough is not None and count >= enough:
            break
        with tokenizing(tokenizer, name):
            # verbose=False: a document longer than the model's context is no mistake here.
            encoding = tokenizer(
                piece, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            found = encoding["input_ids"]
            ids.append(np.fromiter(found, np.int32, len(found)))
            places = (before + end for _, end in encoding["offset_mapping"])
            ends.append(np.fromiter(places, np.int32, len(found)))
        before += len(piece)
        count += len(found)
    return in_one(ids, np.int32), in_one(ends, np.int32)


def tokenizing(tokenizer: Any, name: str) -> AbstractContextManager[None]:
    """The boundary around a tokenizer at work on the text called `name`."""
    called = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    return reading(
        f"The tokenizer {called}", f"the text {name}", "use another tokenizer, or another text"
    )


def in_one(parts: list[np.ndarray], dtype: type = np.int64) -> np.ndarray:
    """The parts one after the other; the list is emptied on the way, for the memory."""
    whole = np.empty(sum(map(len, parts)), dtype)
    start = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces of `size` characters to twice that, the last one perhaps shorter.

    They end behind a line, before one that begins with a word, or, where there is none in reach,
    before the space in front of a word; in a run of letters without an end, anywhere.
    """

    def line_end(least: int) -> int:
        found = LINE.search(text, least - 1, least + size)
        if found:
            return found.end()
        found = WORD.search(text, least, least + size)
        return found.start() if found else least

    return _cut(text, size, line_end)


def pieces_of_words(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces of at least `size` characters that part no word."""

    def next_word(least: int) -> int:
        found = WORD.search(text, least - 1)
        return found.end() if found else len(text)

    return _cut(text, size, next_word)


def _cut(text: str, size: int, end_at: Callable[[int], int]) -> Iterator[str]:
    start = 0
    while len(text) - start > size:
        end = end_at(start + size)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
