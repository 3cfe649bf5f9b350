"""The bytes that a token's string stands for, in the two spellings that there are.

Byte-level BPE writes each byte as one letter (GPT-2's table); SentencePiece writes characters, with
a token `<0x0A>` for each byte that it may fall back on.  Which one a tokenizer has is asked of the
tokenizer: a character that no vocabulary holds is encoded, and its tokens must spell its four
bytes.
"""

import re
from collections.abc import Callable
from typing import Any

RARE = ("\U0010fffd", "\ue000", "\u07fa", "\u00df")
"""Characters of four, three and two bytes that few vocabularies hold and normalizers leave alone; a
vocabulary may lack a byte of the first."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _letters() -> dict[str, int]:
    """GPT-2's letter of each byte: what prints stands for itself, the rest follow from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): b for i, b in enumerate(others)}


LETTERS = _letters()

Spelling = Callable[[str], bytes | None]
"""From a token's string to its bytes; None for one that is not spelt in bytes."""


def of_letters(string: str) -> bytes | None:
    """The bytes of a string of GPT-2's letters."""
    found = [LETTERS.get(letter, -1) for letter in string]
    return None if -1 in found else bytes(found)


def of_fallback(string: str) -> bytes | None:
    """The byte of `<0x0A>`; None for any other piece, which is whole characters."""
    found = BYTE.fullmatch(string)
    return None if found is None else bytes([int(found[1], 16)])


def spelling_of(tokenizer: Any) -> Spelling | None:
    """How a tokenizer spells bytes; None where it does not tell, and so for one without bytes."""
    for rare in RARE:
        ids = tokenizer.encode(rare, add_special_tokens=False)
        strings = [string for string in tokenizer.convert_ids_to_tokens(ids) if string]
        for spelling in (of_letters, of_fallback):
            spelt = (spelling(string) for string in strings)
            if b"".join(part for part in spelt if part is not None) == rare.encode():
                return spelling
    return None
