"""The measures of each task's texts, beside their sources and references."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

from wideneck.lab.tasks import measures
from wideneck.lab.tasks.divergence import DEFINITION, mauve
from wideneck.lab.tasks.embeddings import Embeddings
from wideneck.lab.tasks.judges import Judge
from wideneck.lab.tasks.pairs import Pair
from wideneck.lab.tasks.precision import names_in
from wideneck.lab.tasks.statements import judge
from wideneck.lab.tasks.trial import Measured

JUDGE = "judge "
"""In front of what a judge says: the tasks have a cosine and a pmi of their own.  No colon, which
would end the name in a column's format."""
MAUVE = "mauve"
BLEU = (1, 2, 3)
"""Orders, as Wan et al. 2023, Table 7."""


@dataclass(frozen=True)
class Measures:
    """What is measured of a task's texts, and texts to compare with that no model wrote."""

    of: Callable[[Sequence[Pair], list[str]], Measured]
    baseline: str
    """Name of the baseline."""
    texts: Callable[[Sequence[Pair]], list[str]]
    """The baseline's."""

    def beside(self, pairs: Sequence[Pair]) -> dict[str, Measured]:
        """The measures of the references and of the baseline."""
        references = [pair.target for pair in pairs]
        return {
            "reference": self.of(pairs, references),
            self.baseline: self.of(pairs, self.texts(pairs)),
        }


def judged_too(measures: Measures, judge: Judge) -> Measures:
    """The same, and what a judge says of the texts."""

    def of(pairs: Sequence[Pair], texts: list[str]) -> Measured:
        sources, references = ([getattr(pair, x) for pair in pairs] for x in ("source", "target"))
        return judged(judge, measures.of(pairs, texts), sources, texts, references)

    return replace(measures, of=of)


def definitions_of(judge: Judge) -> dict[str, str]:
    """What a judge says of texts by name, and of all of them together where it has embeddings."""
    if isinstance(judge, Embeddings) and find_spec("mauve") is not None:
        return judge.definitions | {MAUVE: DEFINITION}
    return judge.definitions


def judged(
    judge: Judge,
    found: Measured,
    sources: Sequence[str],
    texts: Sequence[str],
    references: Sequence[str],
) -> Measured:
    """The measures of texts, and beside them those of `definitions_of` a judge.

    Args:
        judge: the user's.
        found: the measures.
        sources: of each text.
        texts: what was written.
        references: what a person wrote, as many or fewer.
    """
    told, whole = judge.measures(sources, texts), dict(found.whole)
    if MAUVE in definitions_of(judge):
        seen = mauve(texts, references, judge)
        if seen is not None:
            whole[f"{JUDGE}{MAUVE}"] = seen
    return Measured(found.each | {f"{JUDGE}{name}": told[name] for name in told}, whole)


def of_summaries(pairs: Sequence[Pair], texts: list[str]) -> Measured:
    """Likeness to the reference, support by the source, and variety."""
    each: dict[str, list[float | None]] = {
        "precision": _of_both(measures.precision, pairs, texts),
        "novelty": _of_both(lambda text, source: measures.novelty(text, source, 2), pairs, texts),
        **_of_texts(texts),
    }
    for name, values in measures.rouge(texts, [pair.target for pair in pairs]).items():
        each[name] = [*values]
    return Measured(each)


def of_tables(pairs: Sequence[Pair], texts: list[str]) -> Measured:
    """The same without ROUGE, and of made-up tables whether a sentence is well-formed, and true."""
    references, names = [pair.target for pair in pairs], _names(pairs, texts)
    each: dict[str, list[float | None]] = {
        "precision": _of_both(partial(measures.precision, names=names), pairs, texts),
        **_of_texts(texts),
    }
    judged = [judge(text, p.table) for p, text in zip(pairs, texts, strict=True) if p.table]
    if judged:
        asked = [pair.source.split(" ", 1)[0] for pair in pairs]
        each["well_formed"] = [float(one.kind is not None) for one in judged]
        each["asked"] = [float(one.kind == of) for one, of in zip(judged, asked, strict=True)]
        each["true"] = [float(one.true) for one in judged]
    whole = {f"bleu{n}": measures.bleu(texts, references, n) for n in BLEU}
    return Measured(each, whole)


def _names(pairs: Sequence[Pair], texts: list[str]) -> frozenset[str]:
    """Words that are names where they begin a sentence, too.

    A sentence about a made-up table begins with a name, also one that the model has made up, or
    with "The" or "All".
    """
    firsts = (text.split()[:1] for text in texts if pairs[0].table)
    begins = {word for first in firsts for word in first} - {"The", "All"}
    return names_in(pair.source for pair in pairs) | begins


def _of_both(
    measure: Callable[[str, str], float | None], pairs: Sequence[Pair], texts: list[str]
) -> list[float | None]:
    return [measure(text, pair.source) for pair, text in zip(pairs, texts, strict=True)]


def _of_texts(texts: list[str]) -> dict[str, list[float | None]]:
    words = [measures.words(text) for text in texts]
    return {
        "diversity": [measures.diversity(some) if some else None for some in words],
        "words": [float(len(some)) for some in words],
    }


def first_words(pairs: Sequence[Pair]) -> list[str]:
    """As many of each source as the reference has."""
    return [" ".join(pair.source.split()[: len(pair.target.split())]) for pair in pairs]


def of_another(pairs: Sequence[Pair]) -> list[str]:
    """The reference of the next pair that is about something else."""
    found = []
    for place, pair in enumerate(pairs):
        others = (*pairs[place:], *pairs[:place])
        about = (p for p in others if (p.origin or p.source) != (pair.origin or pair.source))
        found.append(next((other.target for other in about), ""))
    return found


MEASURES = {
    "summaries": Measures(of_summaries, "first words of the source", first_words),
    "data-to-text": Measures(of_tables, "another's reference", of_another),
}
