"""A text for training, in its three splits: from a folder, a file, `datasets`, or Python itself.

A split is a tuple of documents, cut where `read_text` cuts them.  The marks between documents go;
all lines stay, blank ones too, so that the counts of the papers' files come out.

Cost: the text in memory, as strings of 1 to 4 bytes per character, and twice that while it is cut;
a document takes some 60 bytes besides.
"""

import hashlib
import os
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

from wideneck.data import stories
from wideneck.data.split_files import split_files
from wideneck.data.text import cut_documents, default_text, is_blank, refuse_blank, update_joined
from wideneck.errors import WideneckError
from wideneck.files.text_file import read_text_file

Documents = tuple[str, ...]

ENDINGS = ("", ".txt", ".tokens", ".raw", stories.ENDING)
"""How the names of a folder's splits may end, with or without .gz after it."""
LONG = 40
"""A topic of more than this part of the default text, a quarter of a held-out split, is for
training: a split of one or two subjects would say little of another text."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Three splits, and what a report says of where they come from."""

    name: str
    train: Documents
    valid: Documents
    test: Documents | None = None
    """None where the source has no test split."""
    sha256: str
    """Sum of all documents and of which split each is in."""


def read_corpus(text: str | None) -> Corpus:
    """Read the text that a recipe names.

    Args:
        text: one of

            - a folder: one file each whose name holds "train" and "valid" (or "val",
              "validation"), and perhaps "test"; .txt, .tokens, .raw or no ending, each also .gz;
              or .wp_target of WritingPrompts, in which a line is a document (`data.stories`).
            - a file, which may be .gz: the first 80 % of it is the training split, the next 10 %
              the validation split, the rest the test split, measured in characters, cut at the
              nearest end of a document where the file has three or more, else of a line.
            - `datasets:NAME` or `datasets:NAME:SUBSET`, as in
              `datasets:Salesforce/wikitext:wikitext-2-v1`: its splits train, validation and test.
            - None: CPython's language reference, its documents in a fixed order unlike the
              alphabet, cut like a file.

    Raises:
        WideneckError: nothing is there, a split is missing or empty or could be several files, a
            file is not UTF-8, or the dataset cannot be loaded.
    """
    if text is None:
        return _default()
    if text.startswith("datasets:"):
        from wideneck.data.dataset import dataset_rows

        return _corpus(
            text.removeprefix("datasets:"),
            {split: _of_rows(rows, text) for split, rows in dataset_rows(text).items()},
        )
    path = Path(os.path.expanduser(text))
    if not os.path.exists(path):  # unlike that of a Path, it takes any string
        raise WideneckError(
            f"There is no file or folder {text}: give a text file, a folder with a file for each "
            "split, or datasets:NAME for a dataset of the Hugging Face hub."
        )
    if os.path.isdir(path):
        files = split_files(path, "text file", ENDINGS, needed=("train", "val"))
        return _corpus(text, {split: _read(f) for split, f in files.items()})
    return _cut(path.name, _read(path))


def read_documents(path: Path) -> Documents:
    """The documents of one file, all of its lines, in no splits.

    Raises:
        WideneckError: as `read_text_file`; or the file holds nothing but white space.
    """
    documents = _read(path)
    refuse_blank(documents, path.name)
    return documents


def _read(path: Path) -> Documents:
    content = read_text_file(path)
    if path.name.removesuffix(".gz").endswith(stories.ENDING):
        return stories.stories(content)
    return _documents(content, path.name)


def _corpus(name: str, splits: dict[str, Documents]) -> Corpus:
    digest = hashlib.sha256()
    for split, documents in splits.items():
        refuse_blank(documents, f"{name} ({split} split)")
        update_joined(digest, chain((split,), documents, ("",)))
    return Corpus(name=name, sha256=digest.hexdigest(), **splits)


def _default() -> Corpus:
    text = default_text()
    # A topic that stands there under two names comes once, so that it is not in two splits.
    topics = set(text.documents)
    size = sum(map(len, topics))
    # Long ones first, where the cut puts the training text; there they are shuffled again.
    documents = sorted(topics, key=lambda topic: (len(topic) * LONG < size, _shuffle(topic)))
    cut = _cut(f"{text.name}, shuffled", tuple(documents))
    train = tuple(sorted(cut.train, key=_shuffle))
    return _corpus(cut.name, {"train": train, "valid": cut.valid, "test": cut.test or ()})


def _shuffle(document: str) -> bytes:
    """Sorted by this, documents are in an order that is the same under every version of Python."""
    return hashlib.sha256(document.encode()).digest()


def _cut(name: str, documents: Documents) -> Corpus:
    """One text as three splits."""
    refuse_blank(documents, name)
    if len(documents) < 3:
        where, parts = "at line ends", _cut_at_lines(name, documents)
    else:
        upto = list(accumulate(map(len, documents)))
        first = _nearest(upto, 8, range(1, len(upto) - 1))
        second = _nearest(upto, 9, range(first + 1, len(upto)))
        where = "between documents"
        parts = documents[:first], documents[first:second], documents[second:]
    splits = dict(zip(("train", "valid", "test"), parts, strict=True))
    return _corpus(f"{name}, cut 80/10/10 {where}", splits)


def _cut_at_lines(name: str, documents: Documents) -> tuple[Documents, Documents, Documents]:
    """Cut where a line ends, without a list of the lines: there may be as many as bytes."""
    text = "".join(documents)
    seam = len(documents[0])  # a document may end without a line end

    def before(place: int) -> int:
        """Where the last line before this place ends; 0 for none."""
        end = text.rfind("\n", 0, max(0, place - 1)) + 1
        return max(end, seam) if seam < place else end

    def after(place: int) -> int:
        """Where the first line ends that ends at this place or later."""
        end = text.find("\n", place - 1) + 1 or len(text)
        return min(end, seam) if seam >= place else end

    def nearest(tenths: int, least: int, most: int) -> int:
        place = tenths * len(text) // 10
        ends = [min(max(end, least), most) for end in (before(place + 1), after(place + 1))]
        return min(ends, key=lambda end: abs(10 * end - tenths * len(text)))

    last = before(len(text))  # of the test split
    if not before(last):
        raise WideneckError(
            f"The text {name} has {1 + (last > 0)} lines, too few to be cut into three splits; "
            "give a longer text, or a folder with a file for each split."
        )
    first = nearest(8, after(1), before(last))
    second = nearest(9, after(first + 1), last)
    return (text[:first],), (text[first:second],), (text[second:],)


def _nearest(upto: list[int], tenths: int, counts: range) -> int:
    """How many parts come nearest to some tenths of the text; a long one may take it far off."""
    return min(counts, key=lambda n: abs(10 * upto[n - 1] - tenths * upto[-1]))


def _documents(content: str, name: str) -> Documents:
    """The documents of a text.  A blank piece goes with the one after it: its lines count."""
    documents: list[str] = []
    blank = ""
    for piece in cut_documents(content, name):
        if not is_blank(piece):
            documents.append(blank + piece)
            blank = ""
        else:
            blank += piece
    if documents:
        documents[-1] += blank
    return tuple(documents)


def _of_rows(rows: list[str], name: str) -> Documents:
    """Rows of one line each are the lines of a text; otherwise each row is a document.

    The rows of WikiText come with their line ends from one source and without from another.
    """
    rows = [row.replace("\r\n", "\n") for row in rows]
    if any("\n" in row.removesuffix("\n") for row in rows):
        return tuple(row for row in rows if not is_blank(row))
    return _documents("".join(row if row.endswith("\n") else f"{row}\n" for row in rows), name)
