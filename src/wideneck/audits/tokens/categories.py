"""The category of every token, by decode -> encode (Land & Bartolo 2024, section 3.1).

A token is put between others, decoded, and the text encoded again.  Where the token comes back, a
text that is encoded to it has been found, which settles that it can be reached.  The first
surroundings are « and », as in the paper; what they do not bring back is tried behind a letter of
two alphabets, for pieces that continue a word, and alone.  "Unreachable" hence means: by none of
these texts.

Cost: 262,144 tokens are some 10 seconds of one core.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from wideneck.audits.tokens.category import MARKER, Category, names_padding, of_byte
from wideneck.audits.tokens.spelling import Spelling, spelling_of
from wideneck.files.boundary import reading

AROUND = (
    (
        "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}",
        "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
    ),
    ("z", ""),
    ("\N{CYRILLIC SMALL LETTER YA}", ""),
    ("", ""),
)
BATCH = 4096
"""Texts encoded at a time: a tokenizer holds a kilobyte of each."""
UNKNOWN, CONTROL, UNUSED = 2, 3, 5
"""Types of a token in GGUF."""
NO_BYTES = (
    "The tokenizer does not tell which bytes its tokens stand for: single bytes and parts of "
    "characters are not told apart from other tokens."
)


def special_ids(tokenizer: Any) -> set[int]:
    """What a tokenizer of transformers declares as special: bos, eos, padding, chat markers."""
    added = tokenizer.added_tokens_decoder
    return {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}


def categorize(
    tokenizer: Any,
    tokens: Sequence[str | None],
    num_rows: int,
    *,
    types: Sequence[int] | None = None,
    notes: list[str] | None = None,
) -> list[Category]:
    """The category of each of `num_rows` ids.

    Args:
        tokenizer: of transformers.
        tokens: its strings by id, None for an id without a token (`models.tokens`).
        types: those that GGUF gives its tokens, by id.
        notes: takes what could not be told.

    Raises:
        WideneckError: the tokenizer fails on its own tokens.
    """
    strings = [*tokens[:num_rows], *[None] * (num_rows - len(tokens))]
    kinds = dict(enumerate(() if types is None else map(int, types)))
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    with reading(f"The tokenizer {name}", "its own tokens", "give the model's own tokenizer"):
        added, special = tokenizer.added_tokens_decoder, special_ids(tokenizer)
        special |= {i for i, kind in kinds.items() if kind in (UNKNOWN, CONTROL)}
        spelling = spelling_of(tokenizer)
        if spelling is None and notes is not None:
            notes.append(NO_BYTES)
        found: dict[int, Category] = {}
        open_ids = []
        for i, string in enumerate(strings):
            if string is None:
                found[i] = Category.BEYOND
            elif kinds.get(i) == UNUSED or names_padding(string):
                found[i] = Category.PADDING
            elif i in special:
                found[i] = Category.SPECIAL
            else:
                open_ids.append(i)
        back = _Back(tokenizer, open_ids)
        for i in open_ids:
            string = strings[i]
            assert string is not None
            found[i] = _category(i, string, None if i in added else spelling, back)
    return [found[i] for i in range(num_rows)]


def _category(i: int, string: str, spelling: Spelling | None, back: "_Back") -> Category:
    reached = i in back.reached
    spelt = None if spelling is None else spelling(string)
    if spelt is not None and len(spelt) == 1:
        return of_byte(spelt[0], reached=reached)
    if spelt is not None and not _is_text(spelt):
        return Category.UNDECODABLE
    if reached:
        return Category.OK
    if MARKER.fullmatch(string):
        return Category.UNREACHABLE_SPECIAL
    return Category.UNREACHABLE_SINGLE if i in back.single else Category.UNREACHABLE_MULTI


def _is_text(spelt: bytes) -> bool:
    try:
        spelt.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Back:
    """Which ids come back from decoding and encoding, and which as one other token."""

    def __init__(self, tokenizer: Any, ids: Collection[int]):
        self.reached: set[int] = set()
        self.single: set[int] = set()
        left = [*ids]
        for before, behind in AROUND:
            around = [_encoded(tokenizer, [part])[0] if part else [] for part in (before, behind)]
            unknown = tokenizer.unk_token_id
            if unknown is not None and unknown in (*around[0], *around[1]):
                continue
            for start in range(0, len(left), BATCH):
                self._try(tokenizer, left[start : start + BATCH], *around)
            left = [i for i in left if i not in self.reached]

    def _try(self, tokenizer: Any, ids: list[int], before: list[int], behind: list[int]) -> None:
        texts = tokenizer.batch_decode(
            [[*before, i, *behind] for i in ids],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        expected = Counter([*before, *behind])
        for i, found in zip(ids, _encoded(tokenizer, texts), strict=True):
            if found.count(i) > expected[i]:
                self.reached.add(i)
            elif len(found) == 1 + len(before) + len(behind):
                self.single.add(i)


def _encoded(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids of each text, without special tokens in front or behind."""
    return tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
