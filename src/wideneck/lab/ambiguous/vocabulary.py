"""A vocabulary of whole words, for models that are trained on the task from scratch."""

from collections.abc import Sequence
from typing import final

from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import Encoding
from wideneck.lab.ambiguous.instances import TEMPLATES
from wideneck.lab.ambiguous.words import Analogies

BOS = "<bos>"


@final
class Vocabulary(Encoding):
    """One token a word, upper and lower case kept apart: `bos`, the templates', the analogies'.

    The order is that of occurrence, so equal files give equal ids.  It takes whole analogies, not
    a part of a split: words that are only in the test have ids as well.
    """

    def __init__(self, analogies: Analogies):
        texts = [text.format(x="", y="") for some in TEMPLATES.values() for text in some]
        known = [word for text in texts for word in text.split()]
        known += [
            word
            for questions in analogies.values()
            for question in questions
            for pair in question.pairs
            for word in pair
        ]
        self.words = list(dict.fromkeys([BOS, *known]))
        """The word of every id."""
        self.bos = 0
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.bos, *map(self._id, text.split())] for text in texts]

    def target_ids(self, word: str) -> list[int]:
        return [self._id(word)]

    def accepted_ids(self, word: str) -> list[int]:
        return [self._id(word)]

    def _id(self, word: str) -> int:
        if word not in self._ids:
            raise WideneckError(
                f"The vocabulary of {len(self)} words has no {word!r}; make it from the analogies "
                "that the prompts come from."
            )
        return self._ids[word]
