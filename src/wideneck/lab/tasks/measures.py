"""What is measured of a written text: likeness to a reference, support by its source, variety.

All measures are shares between 0 and 1 and need nothing but the texts.  They say how texts are, not
how good: a summary may be supported word by word and still be beside the point.
"""

import re
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from wideneck.errors import WideneckError
from wideneck.lab.tasks.precision import precision as precision

GRAMS = (2, 3, 4)
DEFINITIONS = {
    "rouge1": "F-measure of the words, stemmed, that a text shares with its reference (Lin 2004).",
    "rouge2": "The same of pairs of words that follow each other.",
    "rougeL": "The same of the longest sequence of words that both have in this order.",
    **{
        f"bleu{n}": f"BLEU of n-grams up to {n}, of all texts together (Papineni et al. 2002)."
        for n in (1, 2, 3)
    },
    "diversity": "Product over n = 2, 3, 4 of 1 - rep-n (Wan et al. 2023, Table 3).",
    **{f"rep-{n}": f"Share of a text's {n}-grams that repeat an earlier one." for n in GRAMS},
    "novelty": "Share of a text's pairs of words or marks that its source has not.",
    "precision": "Share of a text's names, numbers and identifiers that stand in its source.",
}
"""Each measure's name in results, and what it is."""
ROUGE = ("rouge1", "rouge2", "rougeL")
_WORD = re.compile(r"\w+|[^\w\s]")


def grams(words: Sequence[Any], n: int) -> list[tuple[Any, ...]]:
    """The n-grams in their order."""
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def repetition(words: Sequence[Any], n: int) -> float:
    """Share of the n-grams that repeat an earlier one; 0 where there are none."""
    found = grams(words, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def diversity(words: Sequence[Any]) -> float:
    """The product over n = 2, 3, 4 of 1 - `repetition` (as in Wan et al. 2023, Table 3)."""
    product = 1.0
    for n in GRAMS:
        product *= 1 - repetition(words, n)
    return product


def novelty(text: str, source: str, n: int) -> float | None:
    """Share of the text's n-grams that the source has not; None for a text shorter than n words."""
    ours = grams(words(text), n)
    theirs = set(grams(words(source), n))
    return fmean(gram not in theirs for gram in ours) if ours else None


def words(text: str) -> list[str]:
    """Words and marks, in lower case."""
    return _WORD.findall(text.lower())


def rouge(texts: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """F-measures of ROUGE-1, 2 and L of each text (Lin 2004), with stemming.

    Raises:
        WideneckError: the package `rouge-score` is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise _missing("rouge-score") from None
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    found = [scorer.score(other, text) for text, other in zip(texts, references, strict=True)]
    return {name: [score[name].fmeasure for score in found] for name in ROUGE}


def bleu(texts: Sequence[str], references: Sequence[str], order: int = 3) -> float:
    """BLEU of n-grams up to `order`, over all texts together (Papineni et al. 2002).

    Raises:
        WideneckError: the package `sacrebleu` is not installed.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        raise _missing("sacrebleu") from None
    scored = BLEU(max_ngram_order=order).corpus_score(list(texts), [list(references)])
    return scored.score / 100


def mean_known(values: Iterable[float | None]) -> float | None:
    """Mean of those that there are."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _missing(package: str) -> WideneckError:
    return WideneckError(f"This task measures with {package}: pip install 'wideneck[tasks]'.")
