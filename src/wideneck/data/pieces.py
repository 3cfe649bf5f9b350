"""Long texts in pieces of some megabytes, so that what is made of one at a time stays small."""

from collections.abc import Iterator

PIECE = 2**21
"""Characters.  A tokenizer holds some hundred bytes a token of what it is at."""


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces that end with a line, the first line end after `size` characters."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + size - 1) + 1 or len(text)
        yield text[start:end]
        start = end
