"""Text for an audit: documents, and windows of tokens from them.

A document is the unit that an interval of confidence is taken over.  A plain file is one
document, unless it says where its documents end: form feeds, `<|endoftext|>`, or the headings
` = Title = ` of WikiText.  Line ends of Windows become those of Unix.
"""

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError

WIKITEXT_TITLE = re.compile(r"^ = [^=].*[^=] = *$", re.MULTILINE)
LONGEST = 16_000_000
"""Characters of one document that are tokenized; some ten seconds."""
SEPARATORS = re.compile(r"\f|<\|endoftext\|>")


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
        WideneckError: as `read_content`; or the file holds nothing but white space.
    """
    return _text(Path(path).name, cut_documents(read_content(path)))


def read_content(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8, unpacked if its name ends in .gz, with the line ends of Unix.

    Raises:
        WideneckError: the file is missing, a folder, not UTF-8, or a damaged .gz.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise WideneckError(f"There is no text file {path}; check the path.") from None
    except UnicodeDecodeError as error:
        raise WideneckError(
            f"{path} is not UTF-8 text (byte {error.start} cannot be read); "
            "convert it, or unpack it if it is compressed."
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise WideneckError(
            f"{path} cannot be unpacked ({error}): its name says gzip, but it is damaged or "
            "something else."
        ) from None
    except OSError as error:
        raise WideneckError(f"{path} cannot be read: {error.strerror}.") from None


def cut_documents(content: str) -> list[str]:
    """Cut before each title of WikiText, or else at form feeds and `<|endoftext|>`, which go.

    Some of the pieces may be blank.
    """
    titles = [match.start() for match in WIKITEXT_TITLE.finditer(content)]
    if titles:
        bounds = [0, *titles, len(content)]
        return [content[a:b] for a, b in pairwise(bounds)]
    return SEPARATORS.split(content)


def empty_text(name: str) -> WideneckError:
    """What is raised where a text holds nothing but white space."""
    return WideneckError(f"The text {name} is empty; give a file with some text in it.")


def _text(name: str, documents: Sequence[str]) -> Text:
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise empty_text(name)
    digest = hashlib.sha256("\0".join(documents).encode()).hexdigest()
    return Text(name=name, documents=documents, sha256=digest)


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
        tokenizer: a fast Hugging Face tokenizer.
        prefix: ids put in front of every window (what the tokenizer adds to a text).

    Raises:
        WideneckError: no document holds `window` + 1 tokens.
    """
    if not tokenizer.is_fast:
        raise WideneckError(
            f"{type(tokenizer).__name__} does not say where its tokens stand in the text; "
            "a fast tokenizer (tokenizer.json) does."
        )
    wanted = max(1, num_tokens // window)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(text.documents), generator=generator).tolist()
    places: dict[int, list[Tensor]] = {}  # document -> its windows, shuffled
    longest = 0
    for document in order:
        content = _slice(text.documents[document], generator)
        ids, ends = _tokenize(tokenizer, content)
        longest = max(longest, len(ids))
        slack = len(ids) - 1 - window
        if slack < 0:
            continue
        # One random phase a document: its windows then do not overlap.
        phase = int(torch.randint(slack % window + 1, (), generator=generator))
        starts = torch.arange(phase, len(ids) - window, window)
        starts = starts[torch.randperm(len(starts), generator=generator)][:wanted]
        places[document] = []
        for s in starts.tolist():
            predicted = content[ends[s] : ends[s + window]]
            num_bytes = len(predicted.encode("utf-8", "surrogatepass"))
            row = torch.tensor([*ids[s : s + window + 1], num_bytes])
            places[document].append(row)
        if len(places) == wanted:
            break
    if not places:
        raise WideneckError(
            f"The text {text.name} is shorter than one window: its longest document has "
            f"{longest} tokens, and a window of {window} predictions needs {window + 1}; "
            "give a longer text."
        )
    turns = max(len(windows) for windows in places.values())
    picked = [
        (document, windows[turn])
        for turn in range(turns)
        for document, windows in places.items()
        if turn < len(windows)
    ][:wanted]
    rows = torch.stack([row for _, row in picked])
    front = torch.tensor(list(prefix), dtype=torch.long).expand(len(rows), len(prefix))
    return Windows(
        ids=torch.cat([front, rows[:, :window]], dim=1),
        targets=rows[:, 1 : window + 1],
        document=torch.tensor([document for document, _ in picked]),
        num_bytes=rows[:, -1],
    )


def _slice(document: str, generator: torch.Generator) -> str:
    """The document, or a random piece of one that would take minutes to tokenize."""
    slack = len(document) - LONGEST
    if slack <= 0:
        return document
    start = int(torch.randint(slack + 1, (), generator=generator))
    return document[start : start + LONGEST]


def _tokenize(tokenizer: Any, document: str) -> tuple[list[int], list[int]]:
    """The ids, and for each token the character of the document at which it ends."""
    # verbose=False: a document longer than the model's context is cut into windows, not a mistake.
    encoding = tokenizer(
        document, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return encoding["input_ids"], [end for _, end in encoding["offset_mapping"]]
