"""Models of different tokenizers on the same passages: bits per byte, paired passage by passage.

The windows that the first model's tokens cut are given to the others as text.  A model predicts all
of its own tokens of a passage but the first, which may stand for other bytes in each model: so its
bits are taken over the bytes that it predicts.

Shapes: W passages.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wideneck.audits.estimate import ratio
from wideneck.data.text import cut_passages
from wideneck.errors import WideneckError
from wideneck.evaluation.comparison.asked import Asked
from wideneck.evaluation.comparison.beside import groups_to_see
from wideneck.evaluation.comparison.comparison import Comparison
from wideneck.evaluation.comparison.reading import About, load
from wideneck.evaluation.comparison.results import Difference, OneModel
from wideneck.evaluation.documents import document_losses, windows_of
from wideneck.training.folder import is_run

DIFFERENT = (
    "The tokenizers differ: bits per byte are compared, passage by passage, and nothing that is "
    "measured token by token."
)


@dataclass(frozen=True)
class Bits:
    """What a model needs for each passage; one of no prediction has no bytes."""

    about: About
    bits: Tensor
    """(W,)."""
    num_bytes: Tensor
    """(W,)."""


def by_document(asked: Asked) -> Comparison:
    """Compare models of several tokenizers.

    Raises:
        WideneckError: groups were asked for, or a run, or a model cannot be read.
    """
    if asked.groups:
        raise WideneckError(
            "Groups are compared token by token, and these models have different tokenizers: give "
            "models of one vocabulary."
        )
    for model, name in zip(asked.models, asked.names, strict=True):
        if isinstance(model, str | os.PathLike) and is_run(Path(model)):
            raise WideneckError(
                "A run of wideneck train is compared token by token, and the rest has another "
                f"vocabulary than {name}: give runs or models of one vocabulary."
            )
    passages, document = cut_passages(
        asked.text,
        asked.tokenizers[0],
        num_tokens=asked.num_tokens,
        window=asked.window,
        seed=asked.seed,
    )
    with asked.clock("read the text"):
        first, *others = (_read(i, passages, asked) for i in range(len(asked.models)))
    num_tokens, num_documents = asked.window * len(passages), len(document.unique())
    return Comparison(
        source=asked.source(
            num_tokens, num_documents, [DIFFERENT, *asked.cut_short(num_tokens, num_documents)]
        ),
        models=[_model(one, document) for one in (first, *others)],
        differences=[_difference(first, one, document) for one in others],
        groups=[],
    )


def _model(found: Bits, document: Tensor) -> OneModel:
    return OneModel(
        model=found.about.name,
        head=found.about.kind,
        num_parameters=found.about.num_parameters,
        loss=None,
        bits_per_byte=ratio(found.bits, found.num_bytes, document),
        top1=None,
        median_rank=None,
        calibration=None,
        log_normalizer=None,
        effective_rank=None,
        rank_contexts=None,
    )


def _difference(first: Bits, other: Bits, document: Tensor) -> Difference:
    """The difference of the two ratios; both over the bytes of the first for the interval."""
    scale = first.num_bytes.sum() / other.num_bytes.sum()
    found = ratio(other.bits * scale - first.bits, first.num_bytes, document)
    return Difference(
        model=other.about.name,
        loss=None,
        bits_per_byte=found,
        documents_to_see=groups_to_see(found),
        kl_from_first=None,
        kl_to_first=None,
        agreement=None,
        kinds=[],
        better=[],
        worse=[],
    )


def _read(i: int, passages: Sequence[str], asked: Asked) -> Bits:
    """Run model i over the passages."""
    model, tokenizer, where = asked.models[i], asked.tokenizers[i], asked.places[i]
    loaded, about = load(model, tokenizer, asked.names[i], where)
    limit = loaded.max_positions
    windows = windows_of(
        passages,
        tokenizer,
        window=max(map(len, passages)) if limit is None else limit - len(loaded.bos),
        prefix=loaded.bos,
        name=asked.text.name,
    )
    found = document_losses(loaded.model, windows, batch=where.batch, progress=asked.progress)
    empty = torch.zeros(len(passages), dtype=torch.float64)
    sizes = torch.tensor([window.num_bytes for window in windows], dtype=torch.float64)
    return Bits(
        about=about,
        bits=empty.index_add(0, found.document, found.nll.double().sum(1) / math.log(2)),
        num_bytes=empty.index_add(0, found.document, sizes),
    )
