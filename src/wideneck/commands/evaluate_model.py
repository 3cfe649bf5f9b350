"""The evaluation of a model of Hugging Face, with a head of wideneck or its own."""

import math
import os
from typing import Any

import torch
from torch import nn

from wideneck.attached.swap import attached_head
from wideneck.audits.clock import Clock
from wideneck.audits.estimate import estimate
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.audits.states import Progress
from wideneck.commands.evaluated_text import Chosen
from wideneck.commands.evaluation_source import device, evaluation_source
from wideneck.errors import WideneckError
from wideneck.evaluation.documents import Losses, document_losses, own_head, windows_of
from wideneck.evaluation.perplexity import Perplexity, total
from wideneck.evaluation.results import Evaluation, OverDocuments
from wideneck.models import LoadedModel, load_language_model

CONTEXT = 512
"""Predictions in a window where nobody says otherwise, as in an audit."""


def evaluate_model(
    model: str | os.PathLike | nn.Module | None,
    text: Chosen,
    *,
    tokenizer: Any,
    num_contexts: int | None,
    num_tokens: int | None,
    context: int | None,
    progress: Progress | None,
) -> Evaluation:
    """A model of Hugging Face; see `wideneck.commands.evaluate.evaluate`."""
    clock = Clock()
    if progress:
        progress("loading the model", 0, 1)
    with clock("load the model"):
        loaded = load_language_model(model, tokenizer=tokenizer)
        if loaded.model.config.is_encoder_decoder:
            raise WideneckError(
                f"{loaded.source} has an encoder: an evaluation reads a text from left to right; "
                "give a model that predicts its next token."
            )
        if not isinstance(model, nn.Module):
            loaded.model.to(device())
    window = _window(loaded, context)
    with clock("read the text"):
        windows = windows_of(
            text.documents,
            loaded.tokenizer,
            window=window,
            prefix=loaded.bos,
            num_tokens=num_tokens,
            name=text.name,
        )
        head = None if num_contexts is None else own_head(loaded.model, windows[0])
        found = document_losses(
            loaded.model, windows, num_hidden=num_contexts or 0, progress=progress
        )
    ranks = None
    if head is not None:
        assert found.hidden is not None
        with clock("ranks"):
            ranks = log_prob_ranks(
                head, found.hidden, num_contexts=len(found.hidden), progress=progress
            )
    return Evaluation(
        source=evaluation_source(
            model=loaded.source,
            kind="model",
            head=attached_head(loaded.model),
            module=loaded.model,
            text=text,
            seconds=clock.seconds,
            notes=_notes(found, text, num_tokens),
        ),
        plain=Perplexity.of(
            total(found.nll),
            int(found.counted.sum()),
            _conventions(window, loaded.bos),
            found.num_bytes,
        ),
        over_documents=_over_documents(found),
        neural_cache=None,
        dynamic=None,
        ranks=ranks,
    )


def _window(loaded: LoadedModel, context: int | None) -> int:
    """T, where the model has positions for it and for what stands in front."""
    limit = None if loaded.max_positions is None else loaded.max_positions - len(loaded.bos)
    if limit is None:
        return context or CONTEXT
    if context is not None and context > limit:
        raise WideneckError(
            f"A context of {context:,} tokens was asked for, and {loaded.source} has positions for "
            f"{limit:,} beside what its tokenizer puts in front: give at most as many."
        )
    return context or max(1, min(CONTEXT, limit))


def _conventions(window: int, bos: list[int]) -> str:
    front = f" behind {len(bos)} that the tokenizer puts in front" if bos else ""
    return (
        f"each document in non-overlapping windows of {window:,} tokens{front}, each read anew; "
        "every token of a document after its first is predicted, and bytes are those of the "
        "predicted tokens"
    )


def _over_documents(found: Losses) -> OverDocuments:
    nats = estimate(found.nll, found.document, found.counted)
    per_byte = int(found.counted.sum()) / found.num_bytes / math.log(2)
    return OverDocuments(
        loss=nats,
        perplexity=nats.map(lambda x: math.exp(min(x, 700.0))),  # beyond, float64 overflows
        bits_per_byte=nats.map(lambda x: x * per_byte),
    )


def _notes(found: Losses, text: Chosen, num_tokens: int | None) -> list[str]:
    read = len(torch.unique(found.document))
    if num_tokens is None or int(found.counted.sum()) < num_tokens:
        return []
    return [f"{num_tokens:,} tokens were asked for: {read:,} of {len(text.documents):,} documents."]
