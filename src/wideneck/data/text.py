"""Text for an audit: documents, and windows of tokens from them.

A document is the unit that an interval of confidence is taken over.  A plain file is one
document, unless it says where its documents end: form feeds, `<|endoftext|>`, or the headings
` = Title = ` of WikiText.  Line ends of Windows become those of Unix.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wideneck.data.tokenizing import ids_and_ends
from wideneck.data.vocabulary import Vocabulary
from wideneck.errors import WideneckError
from wideneck.files.text_file import read_text_file
from wideneck.registry import shown

WIKITEXT_TITLE = re.compile(r"^ = [^=].*[^=] = *$", re.MULTILINE)
LONGEST = 16_000_000
"""Characters of one document that are tokenized; some ten seconds."""
FEW = 4_000_000
"""The same, for so few predictions that they come from a small part of it."""
A_TOKEN = 32
"""Characters that a token stands for at most, in all but odd texts."""
SEPARATORS = re.compile(r"\f|<\|endoftext\|>")
MANY, SHORT = 1_000_000, 16
"""`MANY` documents may be of any length; more of them have `SHORT` characters on average."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """Documents, and what a report says of where they come from."""

    name: str
    documents: list[str]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Windows:
    """W windows of T predictions each.  Every prediction sees only its own window."""

    ids: Tensor
    """(W, P + T): P tokens that the tokenizer puts in front, then T + 1 tokens of text minus the
    last; the model's input."""
    targets: Tensor
    """(W, T): the token that follows each of the last T positions of `ids`."""
    document: Tensor
    """(W,): which document each window was cut from."""
    num_bytes: Tensor
    """(W,): UTF-8 bytes of the predicted text."""

    @property
    def num_documents(self) -> int:
        """Documents that at least one window comes from."""
        return len(self.document.unique())


def default_text() -> Text:
    """CPython's own language reference: real English on every machine that has Python."""
    import sys
    from pydoc_data import topics

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"pydoc_data.topics of Python {version}"
    return _text(name, [topics.topics[key] for key in sorted(topics.topics)])


def read_text(path: str | os.PathLike) -> Text:
    """A text file in UTF-8, cut into documents where it says so.

    Raises:
        WideneckError: as `read_text_file`; the file holds nothing but white space, or far too many
            documents.
    """
    name = Path(path).name
    return _text(name, cut_documents(read_text_file(path), name))


def text_of(text: str | os.PathLike | Text | None) -> Text:
    """A text as users give it: a file, one in memory, or None for `default_text`.

    Raises:
        WideneckError: as `read_text`; what came is none of these.
    """
    if text is None:
        return default_text()
    if isinstance(text, Text):
        return text
    if not isinstance(text, str | os.PathLike):
        raise WideneckError(
            "A text is the path of a file, or None for the reference of the Python language; got "
            f"{shown(text)}."
        )
    return read_text(text)


def cut_documents(content: str, name: str) -> Iterator[str]:
    """Cut before each title of WikiText, or else at form feeds and `<|endoftext|>`, which go.

    Some of the pieces may be blank.

    Args:
        content: the text.
        name: what messages call it.

    Raises:
        WideneckError: there are more than `MANY` documents, shorter than `SHORT` on average: they
            would take many times the memory of their text.
    """
    titled = WIKITEXT_TITLE.search(content) is not None
    start = 0
    for number, mark in enumerate((WIKITEXT_TITLE if titled else SEPARATORS).finditer(content), 1):
        if number > MANY and number * SHORT > mark.end():
            raise WideneckError(
                f"The text {name} has {number:,} documents in its first {mark.end():,} characters: "
                f"where there are more than {MANY:,}, they should have {SHORT} characters on "
                "average; take out the marks between them."
            )
        yield content[start : mark.start()]
        start = mark.start() if titled else mark.end()
    yield content[start:]


def is_blank(text: str) -> bool:
    """Whether it holds nothing but white space; without a copy."""
    return not text or text.isspace()


def refuse_blank(documents: Iterable[str], name: str) -> None:
    """Refuse a text that holds nothing but white space."""
    if all(map(is_blank, documents)):
        raise WideneckError(f"The text {name} is empty; give a file with some text in it.")


def update_joined(digest: "hashlib._Hash", documents: Iterable[str]) -> None:
    """Add the documents to a digest, with a NUL between two of them, one at a time."""
    between = b""
    for document in documents:
        digest.update(between)
        digest.update(document.encode())
        between = b"\0"


def _text(name: str, documents: Iterable[str]) -> Text:
    documents = [document for document in documents if not is_blank(document)]
    refuse_blank(documents, name)
    digest = hashlib.sha256()
    update_joined(digest, documents)
    return Text(name=name, documents=documents, sha256=digest.hexdigest())


def cut_windows(
    text: Text,
    tokenizer: Any,
    *,
    num_tokens: int,
    window: int,
    prefix: Sequence[int] = (),
    seed: int = 0,
) -> Windows:
    """Windows of `window` predictions, `num_tokens` predictions in all where the text has them.

    The documents are visited in an order drawn from `seed`, one window from each, cut at a
    random place, and then round again, so that few tokens still come from many documents.  So a
    document counts by its windows taken, not by its length, and one shorter than a window not at
    all: the mean loss is not that of the whole text.

    Args:
        tokenizer: a fast Hugging Face tokenizer, or a `Vocabulary`.
        prefix: ids put in front of every window (what the tokenizer adds to a text).

    Raises:
        WideneckError: no document holds `window` + 1 tokens.
    """
    cut = _cut(text, tokenizer, num_tokens, window, seed)
    rows = torch.from_numpy(np.stack([one.tokens for one in cut])).long()
    front = torch.tensor(list(prefix), dtype=torch.long).expand(len(rows), len(prefix))
    return Windows(
        ids=torch.cat([front, rows[:, :window]], dim=1),
        targets=rows[:, 1:],
        document=torch.tensor([one.document for one in cut]),
        num_bytes=torch.tensor([len(_bytes(one.predicted)) for one in cut]),
    )


def cut_passages(
    text: Text, tokenizer: Any, *, num_tokens: int, window: int, seed: int = 0
) -> tuple[list[str], Tensor]:
    """The windows that `cut_windows` cuts, as they stand in the text, for other tokenizers.

    Returns:
        W passages, each with the token that its predictions begin from, and the document (W,) that
        each was cut from.
    """
    cut = _cut(text, tokenizer, num_tokens, window, seed)
    passages = [one.first + one.predicted for one in cut]
    return passages, torch.tensor([one.document for one in cut])


@dataclass(frozen=True)
class _Cut:
    """One window of a document."""

    turn: int
    document: int
    tokens: np.ndarray
    first: str
    """What the first of them stands for."""
    predicted: str
    """What the others stand for."""


def _cut(text: Text, tokenizer: Any, num_tokens: int, window: int, seed: int) -> list[_Cut]:
    if not isinstance(tokenizer, Vocabulary) and not tokenizer.is_fast:
        raise WideneckError(
            f"{type(tokenizer).__name__} does not say where its tokens stand in the text; "
            "a fast tokenizer (tokenizer.json) does."
        )
    wanted = max(1, num_tokens // window)
    longest_read = min(LONGEST, max(FEW, A_TOKEN * num_tokens))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(text.documents), generator=generator)
    found: list[_Cut] = []
    num_documents = longest = 0
    for document in chain.from_iterable(part.tolist() for part in order.split(4096)):
        content = _slice(text.documents[document], longest_read, generator)
        if isinstance(tokenizer, Vocabulary):
            ids, ends = tokenizer.with_ends(content)
        else:
            ids, ends = ids_and_ends(tokenizer, content, text.name)
        longest = max(longest, len(ids))
        slack = len(ids) - 1 - window
        if slack < 0:
            continue
        # One random phase a document: its windows then do not overlap.
        phase = int(torch.randint(slack % window + 1, (), generator=generator))
        starts = torch.arange(phase, len(ids) - window, window)
        starts = starts[torch.randperm(len(starts), generator=generator)][:wanted].tolist()
        for turn, s in enumerate(starts):
            first = content[ends[s - 1] if s else 0 : ends[s]]
            predicted = content[ends[s] : ends[s + window]]
            tokens = ids[s : s + window + 1].copy()  # a view would keep the whole document
            found.append(_Cut(turn, document, tokens, first, predicted))
        num_documents += 1
        if num_documents == wanted:
            break
    if not found:
        raise WideneckError(
            f"The text {text.name} is shorter than one window: its longest document has "
            f"{longest} tokens, and a window of {window} predictions needs {window + 1}; "
            "give a longer text."
        )
    found.sort(key=attrgetter("turn"))  # stably: within a turn, in the order of the documents
    return found[:wanted]


def _bytes(content: str) -> bytes:
    return content.encode("utf-8", "surrogatepass")


def _slice(document: str, length: int, generator: torch.Generator) -> str:
    """The document, or a random piece of one that would take minutes to tokenize."""
    slack = len(document) - length
    if slack <= 0:
        return document
    start = int(torch.randint(slack + 1, (), generator=generator))
    return document[start : start + length]
