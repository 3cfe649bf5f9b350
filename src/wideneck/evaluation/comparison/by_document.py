"""Models of different tokenizers on the same documents: bits per byte, paired document by document.

Their windows differ, and so do the bytes that stand before the first prediction of a document; each
model's bits are taken over its own predicted bytes.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from wideneck.attached.swap import attached_head
from wideneck.audits.estimate import Estimate
from wideneck.audits.unequal_groups import effective_number, half_width
from wideneck.config import name_of
from wideneck.data.tokenizing import ids_and_ends
from wideneck.errors import WideneckError
from wideneck.evaluation.comparison.asked import Asked
from wideneck.evaluation.comparison.comparison import Comparison
from wideneck.evaluation.comparison.measuring import groups_to_see
from wideneck.evaluation.comparison.reading import shown_name
from wideneck.evaluation.comparison.results import Difference, OneModel
from wideneck.evaluation.documents import document_losses, windows_of
from wideneck.models import load_language_model
from wideneck.training.folder import is_run


@dataclass(frozen=True, kw_only=True)
class Bits:
    """What a model needs for each document, (G,) each; documents of no prediction have no bytes."""

    name: str
    kind: str
    num_parameters: int
    bits: Tensor
    num_bytes: Tensor


def by_document(asked: Asked) -> Comparison:
    """Compare models of several tokenizers."""
    documents = _first_documents(asked)
    found = []
    with asked.clock("read the text"):
        for i in range(len(asked.models)):
            found.append(_read(i, documents, asked))
    first = found[0]
    notes = [
        "The tokenizers differ: bits per byte are compared, over whole documents from the start of "
        "the text, and nothing that is measured token by token."
    ]
    return Comparison(
        source=asked.source(None, len(documents), notes),
        models=[
            OneModel(
                model=one.name,
                head=one.kind,
                num_parameters=one.num_parameters,
                loss=None,
                bits_per_byte=_over_documents(one.bits, one.num_bytes),
                top1=None,
                median_rank=None,
                calibration=None,
                log_normalizer=None,
                effective_rank=None,
                rank_contexts=None,
            )
            for one in found
        ],
        differences=[_difference(first, one) for one in found[1:]],
        groups=[],
    )


def _difference(first: Bits, other: Bits) -> Difference:
    """Mean over documents, by their bytes, of what `other` needs for a byte beyond `first`."""
    sizes = torch.where((first.num_bytes > 0) & (other.num_bytes > 0), first.num_bytes, 0)
    change = other.bits / other.num_bytes - first.bits / first.num_bytes
    found = _over_documents(torch.where(sizes > 0, change * sizes, 0), sizes)
    return Difference(
        model=other.name,
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


def _first_documents(asked: Asked) -> list[str]:
    """Whole documents from the start of the text, until they have as many tokens as were asked."""
    found: list[str] = []
    missing = asked.num_tokens
    for document in asked.text.documents:
        found.append(document)
        ids, _ = ids_and_ends(asked.tokenizers[0], document, asked.text.name, missing + 1)
        missing -= len(ids)
        if missing <= 0:
            break
    return found


def _read(i: int, documents: Sequence[str], asked: Asked) -> Bits:
    """Run model i over documents.

    Raises:
        WideneckError: a run, whose tokens are its own.
    """
    model, tokenizer, where = asked.models[i], asked.tokenizers[i], asked.places[i]
    if isinstance(model, str | os.PathLike) and is_run(Path(model)):
        raise WideneckError(
            f"{shown_name(model)} is a run with another vocabulary than the rest: compare runs "
            "with runs of one vocabulary, or save what wideneck.load makes of it and compare that."
        )
    loaded = load_language_model(model, placement=where, tokenizer=tokenizer)
    limit = loaded.max_positions
    length = asked.window if limit is None else min(asked.window, limit - len(loaded.bos))
    windows = windows_of(
        documents, tokenizer, window=length, prefix=loaded.bos, name=asked.text.name
    )
    found = document_losses(
        loaded.model, windows, batch=where.batch, progress=asked.progress
    )
    bits = torch.zeros(len(documents), dtype=torch.float64)
    bits.index_add_(0, found.document, found.nll.double().sum(1) / math.log(2))
    sizes = torch.tensor([window.num_bytes for window in windows], dtype=torch.float64)
    own = attached_head(loaded.model)
    return Bits(
        name=shown_name(model) if isinstance(model, nn.Module) else loaded.source,
        kind="own" if own is None else name_of(own.config),
        num_parameters=sum(weight.numel() for weight in loaded.model.parameters()),
        bits=bits,
        num_bytes=torch.zeros_like(bits).index_add_(0, found.document, sizes),
    )


def _over_documents(sums: Tensor, sizes: Tensor) -> Estimate:
    half = half_width(sums.numpy(), sizes.numpy())
    mean = (sums.sum() / sizes.sum()).item()
    return Estimate(
        value=mean,
        low=None if half is None else mean - float(half),
        high=None if half is None else mean + float(half),
        over="documents",
        num_groups=int((sizes > 0).sum()),
        effective_groups=effective_number(sizes.numpy()),
    )
