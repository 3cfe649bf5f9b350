"""Long texts in pieces, so that what is made of one at a time stays small."""

import re
from collections.abc import Callable, Iterator

PIECE = 2**16
"""Characters.  A tokenizer holds a kilobyte a token of what it is at, and a text may have a token
for every byte."""
LINE = re.compile(r"\n(?=\S)")
"""A line end that no tokenizer joins with what follows: some have a token for several of them."""
WORD = re.compile(r"\s(?=\S)")


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces of `size` characters to twice that, the last one perhaps shorter.

    They end behind a line, before one that begins with a word, or, where there is none in reach,
    before the space in front of a word; in a run of letters without an end, anywhere.
    """
    return _cut(text, size, lambda least: _line_end(text, least, least + size))


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


def _line_end(text: str, least: int, most: int) -> int:
    found = LINE.search(text, least - 1, most)
    if found:
        return found.end()
    found = WORD.search(text, least, most)
    return found.start() if found else least
