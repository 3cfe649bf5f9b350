"""Which of a text's facts stand in its source: P_ent of Wan et al. 2023 without a tagger.

The paper's P_ent (Table 5) is the share of a summary's entities, as spaCy tags them (people,
places, organizations, events), that stand in the document.  Here facts are found by their letters:

- numbers: 3, 2.5 and 1,000, which is the number 1000;
- identifiers: words with "_", a digit, a capital inside, or a "." (torch.nn, but not e.g.);
- names: words that begin with a capital, but the first of a sentence or line, and "I".

So it is another number than P_ent, and lost is: a name in lower case; a number in words, or its
sign and unit; which words make one name, as each counts by itself; and a name that begins a
sentence, unless it is among the names that the caller knows (`names_in`).  A word in capitals for
emphasis is taken for a name.  A fact stands in the source as it is written there: "Turks" is not
found in "Turk", but "nn" is in "torch.nn".  That a fact stands in the source does not make what is
said of it true.
"""

import re
from collections import Counter
from collections.abc import Iterable, Set
from statistics import fmean

_WORD = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w.,]*\d)|\w+(?:\.\w+)*")
_NUMBER = re.compile(r"[\d.,]+")
_IDENTIFIER = re.compile(r".*[\d_.]|.+[A-Z]")
_SHORT = re.compile(r"[a-z](\.[a-z])+")
"""Such as e.g and i.e, without their last mark."""
_BEGIN = re.compile(r"(?:\A|[.!?][\"'\u201d\u2019)\]]*\s|\n)[^\w\n]*")
"""Up to the first word of a sentence or a line, with marks before it."""


def precision(text: str, source: str, names: Set[str] = frozenset()) -> float | None:
    """Share of the text's facts that stand in its source; None for a text without facts.

    Args:
        text: which may be the reference, too.
        source: what the text is about.
        names: as for `facts`.
    """
    known = set(map(_plain, _WORD.findall(source)))
    known |= {part for word in known if not _NUMBER.fullmatch(word) for part in word.split(".")}
    found = facts(text, names)
    return fmean(fact in known for fact in found) if found else None


def facts(text: str, names: Set[str] = frozenset()) -> list[str]:
    """Numbers, identifiers and names, in their order.

    Args:
        text: of any length.
        names: words that are names where they begin a sentence, too.
    """
    begins = {match.end() for match in _BEGIN.finditer(text)}
    return [
        _plain(word)
        for match in _WORD.finditer(text)
        if _is_fact(word := match[0], match.start() in begins and word not in names)
    ]


def names_in(texts: Iterable[str]) -> frozenset[str]:
    """Words that begin with a capital inside sentences, more often than they are in lower case.

    Take texts of which every text's source is one, such as all sources and the training targets: a
    name that only the model writes is then still lost where it begins a sentence.
    """
    capital: Counter[str] = Counter()
    lower: Counter[str] = Counter()
    for text in texts:
        begins = {match.end() for match in _BEGIN.finditer(text)}
        for match in _WORD.finditer(text):
            word = match[0]
            if word[0].islower():
                lower[word] += 1
            elif word[0].isupper() and match.start() not in begins:
                capital[word] += 1
    return frozenset(
        word for word, count in capital.items() if word != "I" and count > lower[word.lower()]
    )


def _is_fact(word: str, begins: bool) -> bool:
    if _IDENTIFIER.match(word):
        return not _SHORT.fullmatch(word)
    return word[0].isupper() and not begins and word != "I"


def _plain(word: str) -> str:
    """A number without the commas between its thousands."""
    return word.replace(",", "")
