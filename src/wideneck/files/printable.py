"""Strangers' strings made harmless where they are printed: names of tokens, files, tensors."""


def printable(text: str) -> str:
    """The text with everything that does not print, or turns text around, as an escape.

    Newlines, escape sequences of terminals, overrides of direction and the halves of surrogates
    that stand for bytes of a name that is no UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
