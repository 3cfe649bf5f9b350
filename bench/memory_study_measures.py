"""Measures of a continuation that need nothing but its tokens or words: pure functions."""

import re
from collections import Counter
from collections.abc import Sequence, Set

NGRAMS = (2, 3, 4)
WINDOW = 16
"""Tokens that `rep_window` looks back."""
WORD = re.compile(r"[^\W\d_]{2,}")


def rep_n(tokens: Sequence[int], n: int) -> float:
    """Share of the n-grams that repeat an earlier one; 0 where there are none."""
    grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def diversity(tokens: Sequence[int]) -> float:
    """The product over n = 2, 3, 4 of 1 - rep-n (as in Wan et al. 2023, Table 3, a share)."""
    product = 1.0
    for n in NGRAMS:
        product *= 1 - rep_n(tokens, n)
    return product


def rep_window(tokens: Sequence[int], window: int = WINDOW) -> float:
    """Share of the tokens that stand among the `window` before them (rep-w, Fu et al. 2021)."""
    hits = [token in tokens[max(0, i - window) : i] for i, token in enumerate(tokens)]
    return sum(hits) / len(hits) if hits else 0.0


def common_words(texts: Sequence[str], count: int) -> frozenset[str]:
    """The most frequent words, which say little of what a text is about, and "unk"."""
    counts = Counter(word for text in texts for word in words(text))
    return frozenset([word for word, _ in counts.most_common(count)] + ["unk"])


def words(text: str) -> list[str]:
    """Runs of two letters or more, in lower case."""
    return WORD.findall(text.lower())


def shared_words(continuation: str, prompt: str, common: Set[str]) -> float:
    """Share of the continuation's content words that stand in the prompt; 0 where it has none."""
    content = [word for word in words(continuation) if word not in common]
    known = set(words(prompt))
    return sum(word in known for word in content) / len(content) if content else 0.0
