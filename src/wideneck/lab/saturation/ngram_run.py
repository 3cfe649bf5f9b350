"""The n-grams of the family's text, by its words and by the tokens of the frozen model."""

from dataclasses import dataclass, replace

from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import encode_corpus, read_corpus
from wideneck.data.config import Data
from wideneck.lab.saturation.ngrams import NgramDimensionality, ngram_dimensionality
from wideneck.lab.saturation.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Ngrams:
    """One tokenization of the text."""

    tokens: str = measure("words, or the tokenizer")
    vocab_size: int = measure("tokens of the vocabulary")
    num_tokens: int = measure("of the start of the training text", unit="tokens")
    orders: list[NgramDimensionality] = measure("each order")


@dataclass(frozen=True, kw_only=True)
class AllNgrams:
    """Both, kept as one finished run."""

    found: list[Ngrams]


def all_ngrams(settings: Settings, progress: Progress) -> AllNgrams:
    """The words of the family, and the tokenizer of the default model or the one given."""
    corpus = read_corpus(settings.text)
    first = next(iter(settings.family.values())).data
    found = []
    for data in (first, *(replace(Data(text=first.text), tokens=t) for t in settings.tokenizers)):
        encoded = encode_corpus(corpus, data)
        ids = encoded.train.ids[: settings.ngram_tokens]
        found.append(
            Ngrams(
                tokens=data.tokens,
                vocab_size=encoded.vocab_size,
                num_tokens=len(ids),
                orders=ngram_dimensionality(ids, orders=settings.orders, progress=progress),
            )
        )
    return AllNgrams(found=found)
