"""The data of the attention study: bytes of text, and sequences with needles among them.

A token is a byte, START, which every sequence begins with, or the key of a needle.  A needle
sequence is text with one needle of each key, key and value, put in at random places; at the end
stand as many queries, key and value again, in another order.

The bytes of a value are none of the text's, and each key has an alphabet of its own for each of
them: where to look follows from what is asked.  Arbitrary pairs of key and value would need heads
that work together over two layers (induction), which take many times the steps of this study.

B sequences of L predictions each.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.data import Text

START = 256
KEYS = (257, 258, 259, 260)
VOCABULARY = 261
VALUE = 2
"""Bytes of a value."""
ALPHABET = 16
FIRST = 128
"""The default text is ASCII: values have the bytes from here."""
IGNORED = -100
LONGEST = 0.04
"""Share of the text that one held-out document may have, so that several are."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences and what is to be predicted of them."""

    ids: Tensor
    """(B, L)."""
    targets: Tensor
    """(B, L): the next token; IGNORED where it is drawn at random, as all of a needle is."""
    is_value: Tensor
    """(B, L): whether the target is a byte of a queried value."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Bytes to train on, and blocks of bytes from documents that are held out."""

    train: bytes
    blocks: list[bytes]
    num_documents: int
    """Held-out documents that the blocks come from."""


def split(text: Text, block: int, num_blocks: int) -> Corpus:
    """Whole documents held out until they fill the blocks, the same ones for every seed.

    The documents of the default text quote one another: paragraphs that also stand in a held-out
    one are left out of the training text.
    """
    documents = [document.encode() for document in text.documents]
    order = random.Random(0).sample(range(len(documents)), len(documents))
    most = LONGEST * sum(map(len, documents))
    held: list[int] = []
    blocks: list[bytes] = []
    for i in order:
        if len(blocks) >= num_blocks:
            break
        content = documents[i]
        if block <= len(content) <= most:
            held.append(i)
            blocks += [content[at : at + block] for at in range(0, len(content) - block + 1, block)]
    seen = {_words(p) for i in held for p in documents[i].split(b"\n\n")}
    kept = [
        b"\n\n".join(p for p in content.split(b"\n\n") if _words(p) not in seen)
        for i, content in enumerate(documents)
        if i not in held
    ]
    return Corpus(train=b"\n\n".join(kept), blocks=blocks[:num_blocks], num_documents=len(held))


def _words(paragraph: bytes) -> bytes:
    """The paragraph under any indentation and line breaks."""
    return b" ".join(paragraph.split())


def text_batch(pieces: list[bytes]) -> Batch:
    """Plain text: all bytes of pieces of one length L are predicted."""
    targets = torch.tensor([list(piece) for piece in pieces])
    ids = torch.cat([torch.full_like(targets[:, :1], START), targets[:, :-1]], dim=1)
    return Batch(ids=ids, targets=targets, is_value=torch.zeros_like(ids, dtype=torch.bool))


def text_of(length: int) -> int:
    """Bytes of text in a needle sequence of `length` predictions."""
    return length - 2 * len(KEYS) * (1 + VALUE)


def needle_batch(pieces: list[bytes], draw: random.Random) -> Batch:
    """Needle sequences from pieces of `text_of(L)` bytes."""
    rows = [_needle_row(piece, draw) for piece in pieces]
    tokens = torch.tensor([row for row, _ in rows])
    kinds = torch.tensor([kind for _, kind in rows])[:, 1:]
    return Batch(
        ids=tokens[:, :-1],
        targets=tokens[:, 1:].masked_fill(kinds == 0, IGNORED),
        is_value=kinds == 2,
    )


def _needle_row(piece: bytes, draw: random.Random) -> tuple[list[int], list[int]]:
    """L + 1 tokens; 1 for those of the text, 2 for those of a queried value, else 0."""
    needles = [[key, *_value(i, draw)] for i, key in enumerate(KEYS)]
    draw.shuffle(needles)
    places = sorted(draw.choices(range(len(piece) + 1), k=len(needles)))
    tokens, kinds, begin = [START], [0], 0
    for place, needle in zip(places, needles, strict=True):
        tokens += [*piece[begin:place], *needle]
        kinds += [1] * (place - begin) + [0] * len(needle)
        begin = place
    tokens += piece[begin:]
    kinds += [1] * (len(piece) - begin)
    for needle in draw.sample(needles, len(needles)):
        tokens += needle
        kinds += [0] + [2] * VALUE
    return tokens, kinds


def _value(key: int, draw: random.Random) -> list[int]:
    alphabets = [FIRST + ALPHABET * (VALUE * key + place) for place in range(VALUE)]
    return [first + draw.randrange(ALPHABET) for first in alphabets]


def train_batch(text: bytes, length: int, size: int, draw: random.Random) -> Batch:
    """Plain text in one half of the sequences, needles in the other."""

    def pieces(num: int, width: int) -> list[bytes]:
        starts = [draw.randrange(len(text) - width + 1) for _ in range(num)]
        return [text[start : start + width] for start in starts]

    plain = text_batch(pieces(size - size // 2, length))
    needle = needle_batch(pieces(size // 2, text_of(length)), draw)
    both = vars(plain).keys()
    return Batch(**{of: torch.cat([getattr(plain, of), getattr(needle, of)]) for of in both})
