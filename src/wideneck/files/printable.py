"""Strangers' strings made harmless where they are printed: names of tokens, files, tensors."""

import re
import unicodedata
from collections.abc import Sequence

LONGEST = 200
"""Characters of a name that are shown."""
MARKS = 8
"""Combining marks that may stand on one letter; no script needs as many, and a tower of them hides
the lines above."""
_MARKS = re.compile(rf"[^\x00-\u02ff]{{{MARKS + 1},}}")


def printable(text: str, keep: str = "") -> str:
    """The text with everything that does not print, or turns text around, as an escape.

    Newlines, escape sequences of terminals, overrides of direction, the halves of surrogates that
    stand for bytes of a name that is no UTF-8, and marks piled up on a letter.

    Args:
        text: anything.
        keep: characters that stay as they are all the same.
    """
    if text.isascii() and text.isprintable():
        return text
    bad = {c for c in set(text) if not c.isprintable() and c not in keep}
    if bad:
        text = text.translate({ord(c): escaped(c) for c in bad})
    return text if text.isascii() else _MARKS.sub(lambda found: _lower(found[0]), text)


def shortened(text: str, most: int = LONGEST) -> str:
    """A long text without its middle, as both ends of a name tell something."""
    if len(text) <= most:
        return text
    said = f" ...{len(text):,} characters... "
    last = (most - len(said)) // 3
    return text[: most - len(said) - last] + said + text[-last:]


def listed(texts: Sequence[str], most: int = 6, between: str = ", ") -> str:
    """The first few of many, long ones shortened, and how many more there are; empty of none."""
    more = len(texts) - most
    rest = f" and {more:,} more" if more > 0 else ""
    return between.join(map(shortened, texts[:most])) + rest


def escaped(character: str) -> str:
    """The character as Python writes one that does not print."""
    return character.encode("unicode_escape").decode("ascii")


def _lower(text: str) -> str:
    """The text with the marks beyond `MARKS` in a row as escapes."""
    found, row = [], 0
    for c in text:
        row = row + 1 if unicodedata.category(c)[0] == "M" else 0
        found.append(escaped(c) if row > MARKS else c)
    return "".join(found)
