"""What a token is to its tokenizer: text that can come about, a part of one, or a name for none."""

import re
from enum import StrEnum


class Category(StrEnum):
    """One for each row of a head; the order is that of a report."""

    OK = "ok"
    SPECIAL = "special"
    UNREACHABLE_SPECIAL = "unreachable special"
    UNREACHABLE_SINGLE = "unreachable single"
    UNREACHABLE_MULTI = "unreachable multi"
    UNDECODABLE = "undecodable"
    ASCII_BYTE = "ascii byte"
    UTF8_BYTE = "utf-8 byte"
    NEVER_VALID_BYTE = "never valid byte"
    PADDING = "padding"
    BEYOND = "beyond the tokenizer"


MEANINGS = {
    Category.OK: "some text is encoded to it",
    Category.SPECIAL: "the tokenizer declares it as special",
    Category.UNREACHABLE_SPECIAL: "written like a special token, [...] or <...>, not declared as "
    "one, and no text that was tried is encoded to it",
    Category.UNREACHABLE_SINGLE: "its text is encoded to one other token",
    Category.UNREACHABLE_MULTI: "its text is encoded to other tokens",
    Category.UNDECODABLE: "several bytes that begin or end inside a character",
    Category.ASCII_BYTE: "a byte below 0x80 whose character is another token",
    Category.UTF8_BYTE: "a byte that UTF-8 has in characters of several bytes only",
    Category.NEVER_VALID_BYTE: "a byte that UTF-8 never has: C0, C1 and F5 to FF",
    Category.PADDING: "a name with a number that a converter or a vocabulary of round size made "
    "up, such as [PAD151768] or <unused7>, or of the type unused in GGUF: no vocabulary",
    Category.BEYOND: "a row whose id the tokenizer gives to no token",
}
CLEAN = (Category.OK,)
"""Those that a text may hold, and so the ones to be suspicious of."""
UNREACHABLE = (
    Category.UNREACHABLE_SPECIAL,
    Category.UNREACHABLE_SINGLE,
    Category.UNREACHABLE_MULTI,
)
MARKER = re.compile(r"\s*(?:\[.+\]|<.+>)\s*", re.DOTALL)
_WORD = r"(?:pad|padding|unused|reserved|reserved_special_token|reserved_token|dummy|filler)"
FILLER = re.compile(rf"(?:\[{_WORD}[_-]?\d+\]|<(\|?){_WORD}[_-]?\d+\1>)", re.IGNORECASE)


def names_padding(string: str) -> bool:
    """Whether a token is a filler by its name: a known word and a number in brackets."""
    return FILLER.fullmatch(string) is not None


def of_byte(byte: int, *, reached: bool) -> Category:
    """The category of a token that is one byte; `reached`: some text is encoded to it."""
    if byte < 0x80:
        return Category.OK if reached else Category.ASCII_BYTE
    if byte in (0xC0, 0xC1) or byte >= 0xF5:
        return Category.NEVER_VALID_BYTE
    return Category.UTF8_BYTE
