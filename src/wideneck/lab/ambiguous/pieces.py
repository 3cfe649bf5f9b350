"""The pieces of any Hugging Face tokenizer (Wan et al. 2023; their code for the details)."""

from collections.abc import Sequence
from typing import Any, final

from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import Encoding
from wideneck.models.language_model import bos_of

ANCHOR = "the"
"""A word in front of a target, for tokenizers that treat the start of a text in their own way."""


@final
class Pieces(Encoding):
    """A tokenizer's ids: all pieces of a label are trained on, only the first is evaluated.

    In front stands what the tokenizer itself puts there, or else its bos or eos token; nothing
    that it adds at the end of a text.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.prefix = bos_of(tokenizer)
        if not self.prefix:
            marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
            self.prefix = [mark for mark in marks if mark is not None][:1]
        if not self.prefix:
            raise WideneckError(
                f"{type(tokenizer).__name__} has neither a bos nor an eos token to put in front of "
                "a prompt; set tokenizer.bos_token."
            )

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        plain = self.tokenizer(list(texts), add_special_tokens=False).input_ids
        return [self.prefix + ids for ids in plain]

    def target_ids(self, word: str) -> list[int]:
        anchor, whole = self._plain(ANCHOR), self._plain(f"{ANCHOR} {word}")
        if whole[: len(anchor)] != anchor or len(whole) == len(anchor):
            raise WideneckError(
                f"{type(self.tokenizer).__name__} does not keep {ANCHOR!r} apart from the "
                f"{word!r} that follows it, so the pieces of a label are unknown."
            )
        return whole[len(anchor) :]

    def accepted_ids(self, word: str) -> list[int]:
        """The first piece of " w" and of "w"; often one id.

        A first piece that is a bare space or unknown would be that of every word, and any model
        right: that is refused.
        """
        ids = list(dict.fromkeys([self.target_ids(word)[0], *self._plain(word)[:1]]))
        for i in ids:
            if i == self.tokenizer.unk_token_id or not self.tokenizer.decode([i]).strip():
                raise WideneckError(
                    f"The first piece that {type(self.tokenizer).__name__} makes of {word!r}, "
                    f"{self.tokenizer.convert_ids_to_tokens(i)!r}, says nothing of the word, so "
                    "an accuracy would mean nothing; use another tokenizer."
                )
        return ids

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)
