"""What an evaluation reads, and where its numbers come from.

The text is a run's own, a split of another, or a whole file.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from wideneck.config import name_of
from wideneck.data.corpus import Corpus, Documents, read_corpus, read_documents
from wideneck.data.text import default_text, update_joined
from wideneck.errors import WideneckError
from wideneck.evaluation.results import Origin
from wideneck.heads import Head
from wideneck.models.device_map import input_device, map_of
from wideneck.registry import did_you_mean
from wideneck.report.provenance import stamped

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Documents, and what a report says of where they come from."""

    name: str
    split: str | None
    """One of `SPLITS`; None where the whole text is read."""
    documents: Documents

    @property
    def sha256(self) -> str:
        """Hash of the documents."""
        digest = hashlib.sha256()
        update_joined(digest, self.documents)
        return digest.hexdigest()


def chosen_text(text: str, split: str | None) -> Chosen:
    """The text that a user names.

    Args:
        text: a file or a pipe, read whole; or a folder of splits or `datasets:NAME`, as for
            `read_corpus`.
        split: which split of a folder or a dataset; None for the test split.

    Raises:
        WideneckError: nothing is there, the split is missing, or it cannot be read.
    """
    path = Path(os.path.expanduser(text))
    whole = os.path.exists(path) and not os.path.isdir(path)
    if not whole:
        return of_split(read_corpus(text), split)
    if split is not None:
        raise WideneckError(
            f"The text {text} is one file, which is read whole: leave out --split, or give a "
            "folder with a file for each split."
        )
    return Chosen(name=path.name, split=None, documents=read_documents(path))


def the_default_text(split: str | None) -> Chosen:
    """CPython's language reference, whole."""
    if split is not None:
        raise WideneckError(
            "The default text of a model has no splits: leave out --split, or name a folder or "
            "dataset by --text."
        )
    text = default_text()
    return Chosen(name=text.name, split=None, documents=tuple(text.documents))


def of_split(corpus: Corpus, split: str | None) -> Chosen:
    """One split of a text; the test split where none is named."""
    split = split or "test"
    if split not in SPLITS:
        raise WideneckError(f"No split is called '{split}'.{did_you_mean(split, list(SPLITS))}")
    documents = getattr(corpus, split)
    if documents is None:
        raise WideneckError(f"{corpus.name} has no test split: give --split valid, or --text.")
    return Chosen(name=corpus.name, split=split, documents=documents)


def origin(module: nn.Module, head: Head | None, text: Chosen, **known: Any) -> Origin:
    """Where the numbers come from, with versions, command and time.

    Args:
        module: the model itself.
        head: None for a model's own output layer.
        text: what it read.
        known: the other fields of `Origin`.
    """
    first: Any = next(module.parameters())
    return stamped(
        Origin,
        head="own" if head is None else name_of(head.config),
        num_parameters=sum(parameter.numel() for parameter in module.parameters()),
        text=text.name,
        split=text.split,
        text_sha256=text.sha256,
        num_documents=len(text.documents),
        device=str(input_device(module)),
        device_map=map_of(module),
        dtype=str(first.dtype).removeprefix("torch."),
        **known,
    )
