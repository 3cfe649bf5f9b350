"""Tokens as a person reads them: the tokenizer's own spelling decoded, and nothing invisible.

A report holds each token as its tokenizer spells it.  Two spellings are no text: a byte-level
tokenizer writes every byte as a letter of its own (a space is Ġ, and Thai looks like à¸ª), and
SentencePiece writes a space as ▁ and a byte as <0x0A>.  Which it is, the strings of a list show
together; one alone may be either.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

from wideneck.audits.tokens.spelling import BYTE, of_letters

SPACE, CARRIER = "\N{OPEN BOX}", "\N{DOTTED CIRCLE}"
"""What stands for a space, and for the letter that a mark at the start of a token belongs to."""

PIECE = "\N{LOWER ONE EIGHTH BLOCK}"


FRAGMENT = re.compile(
    rb"[\x80-\xbf]{0,3}(?:[\t\n -\x7e]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}"
    rb"|[\xf0-\xf4][\x80-\xbf]{3})*(?:[\xe0-\xf4][\x80-\xbf]{0,2})?"
)
"""UTF-8 that may begin and end inside a character."""
CHARACTER = re.compile(rb"[\t\n ]|[\xc2-\xf4][\x80-\xbf]")


def reader(strings: Iterable[str | None]) -> Callable[[str], str]:
    """How to read the strings of one tokenizer, by what most of those tell that tell anything."""
    told = sum(map(_tells, filter(None, strings)))
    return lambda string: _shown(_of_bytes(string) if told > 0 else _of_pieces(string))


def _tells(string: str) -> int:
    """1 for the letters of bytes, -1 against them, 0 for neither."""
    if string.isascii():
        return -1 if BYTE.fullmatch(string) else 0
    spelt = of_letters(string)
    if spelt is None:
        return 0 if string.startswith("<") else -1  # special tokens are spelt as they are
    return 1 if FRAGMENT.fullmatch(spelt) and CHARACTER.search(spelt) else 0


def _of_bytes(string: str) -> str:
    spelt = of_letters(string)
    return string if spelt is None else spelt.decode("utf-8", "backslashreplace")


def _of_pieces(string: str) -> str:
    byte = BYTE.fullmatch(string)
    if byte:
        return bytes([int(byte[1], 16)]).decode("utf-8", "backslashreplace")
    return string.replace(PIECE, " ")


def _shown(text: str) -> str:
    """Spaces as a sign; what else does not print is spelt out where names are (`visible`)."""
    marked = text[:1] and unicodedata.category(text[0]).startswith("M")
    return (CARRIER if marked else "") + text.replace(" ", SPACE)
