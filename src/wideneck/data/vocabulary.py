"""Words as tokens, by the conventions of PTB and WikiText-2.

The tokens of a line are `line.split() + ["<eos>"]`, blank lines included, as in
salesforce/awd-lstm-lm.  The vocabulary is that of the training text; a word that it lacks is
`<unk>`.  Ids fall with the frequency in the encoded training text, ties by first appearance.

Cost: some 0.25 us per token to count, and as much to encode (WikiText-2, 2.1 million tokens: about
a second in all); 8 bytes per token are kept.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from wideneck.data.tokenizing import PIECE, in_one, pieces_of_words
from wideneck.errors import WideneckError
from wideneck.files.text_file import read_text_file
from wideneck.files.writing import write_text

EOS = "<eos>"
"""The end of a line."""
UNK = "<unk>"
"""Any word that the vocabulary lacks."""
WORD = re.compile(r"\n|\S+")
"""A token of words, where it stands in a text."""
MOST = 5_000_000
"""Different words of a text; they take some 100 bytes each."""


@dataclass(frozen=True)
class Vocabulary:
    """V words; the id of a word is its place."""

    words: tuple[str, ...]
    """No word twice, none with white space in it, `<eos>` and `<unk>` among them."""

    @staticmethod
    def of(texts: Iterable[str], size: int | None = None) -> "Vocabulary":
        """The words of the training text, or the `size` most frequent.

        `<eos>` and `<unk>` are always among them, even an `<unk>` that the text itself never needs:
        another text may.  A text with fewer words than `size` keeps all of them.

        Args:
            texts: the documents of the training text.
            size: V, at least 3; None for all words.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            for words in words_of(text):
                counts.update(words)
                _check_number(len(counts))
        counts[EOS] += 0
        counts[UNK] += 0
        if size is not None and len(counts) > size:
            common = [word for word, _ in counts.most_common() if word not in (EOS, UNK)]
            for word in common[size - 2 :]:
                counts[UNK] += counts.pop(word)
        # most_common sorts stably, so words of one frequency stay in the order of appearance.
        return Vocabulary(tuple(word for word, _ in counts.most_common()))

    @cached_property
    def index(self) -> dict[str, int]:
        """Word to id."""
        return {word: i for i, word in enumerate(self.words)}

    @property
    def eos_id(self) -> int:
        """The id of `<eos>`."""
        return self.index[EOS]

    @property
    def unk_id(self) -> int:
        """The id of `<unk>`."""
        return self.index[UNK]

    @property
    def sha256(self) -> str:
        """Sum of the words in their order: the same for two vocabularies only if all ids agree."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> Tensor:
        """The ids of a text, (N,) int64; a last line without its end gets an `<eos>` as well."""
        return torch.from_numpy(in_one(list(self.parts(text))))

    def parts(self, text: str) -> Iterator[np.ndarray]:
        """The ids of a text, one piece after the other, int32."""
        for words in words_of(text):
            ids = map(self.index.get, words, repeat(self.unk_id))
            yield np.fromiter(ids, dtype=np.int32, count=len(words))

    def with_ends(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a text (n,), and for each the character behind it, (n,); both int32.

        An `<eos>` ends behind its line.
        """
        found = [
            (self.eos_id if word[0] == "\n" else self.index.get(word[0], self.unk_id), word.end())
            for word in WORD.finditer(text)
        ]
        if text and not text.endswith("\n"):
            found.append((self.eos_id, len(text)))
        pairs = np.array(found, np.int32).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def decode(self, ids: Iterable[int]) -> str:
        """Text whose ids these are (but for one `<eos>` more where the last is none)."""
        words = (self.words[i] for i in ids)
        return "".join("\n" if word == EOS else f"{word} " for word in words)


def words_of(text: str, size: int = PIECE) -> Iterator[list[str]]:
    """The tokens of every line of a text, its words and an `<eos>`, a piece at a time."""
    for piece in pieces_of_words(text, size):
        yield piece.replace("\n", f" {EOS} ").split()
    if text and not text.endswith("\n"):
        yield [EOS]


def _check_number(words: int) -> None:
    if words > MOST:
        raise WideneckError(
            f"The training text has more than {MOST:,} different words, too many for a vocabulary: "
            "give a text with white space between its words, or use a tokenizer."
        )


def write_vocabulary(path: str | os.PathLike, vocabulary: Vocabulary) -> None:
    """A text file of one word per line, in the order of the ids; whole or not there.

    Raises:
        WideneckError: as `write_text`.
    """
    write_text(os.fspath(path), "".join(f"{word}\n" for word in vocabulary.words))


def read_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """What `write_vocabulary` wrote.

    Raises:
        WideneckError: as `read_text_file`; or a line is not one word, a word comes twice, or
            `<eos>` or `<unk>` is missing.
    """
    words = read_text_file(path, "vocabulary").removesuffix("\n").split("\n")
    seen: set[str] = set()
    for number, word in enumerate(words, start=1):
        if word.split() != [word] or word in seen:
            raise WideneckError(
                f"{os.fspath(path)} is no vocabulary: it should hold one word per line, each once, "
                f"and line {number} is {word!r}."
            )
        seen.add(word)
    for word in (EOS, UNK):
        if word not in seen:
            raise WideneckError(f"{os.fspath(path)} is no vocabulary: it has no {word}.")
    return Vocabulary(tuple(words))
