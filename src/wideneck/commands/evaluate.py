"""`wideneck evaluate`: how well a model predicts a text, and by which conventions."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wideneck.attached.swap import attached_head
from wideneck.audits.clock import Clock
from wideneck.audits.estimate import estimate
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.audits.states import Progress
from wideneck.commands.destination import deliver, html_and_json
from wideneck.commands.evaluate_run import evaluate_run
from wideneck.commands.evaluated_text import Chosen, chosen_text, origin, the_default_text
from wideneck.commands.options import besides_option, placement_options
from wideneck.commands.progress import progress_bars
from wideneck.commands.streams import native_output_apart
from wideneck.errors import WideneckError
from wideneck.evaluation.config import DynamicEvaluation
from wideneck.evaluation.documents import document_losses, own_head, windows_of
from wideneck.evaluation.perplexity import Perplexity, total
from wideneck.evaluation.results import Evaluation, OverDocuments
from wideneck.models import LoadedModel, load_language_model
from wideneck.models.device_map import weights_there
from wideneck.models.devices import AUTO
from wideneck.models.placement import Placement, placed, placement
from wideneck.models.ranks import ALONE, Ranks, joined
from wideneck.models.text_part import only_text
from wideneck.training.folder import is_run

CONTEXT = 512
"""Predictions in a window where nobody says otherwise, as in an audit."""


def evaluate(
    model: str | os.PathLike | nn.Module | None = None,
    text: str | os.PathLike | None = None,
    *,
    split: str | None = None,
    dynamic: DynamicEvaluation | None = None,
    cache_size: int | None = None,
    num_contexts: int | None = None,
    num_tokens: int | None = None,
    context: int | None = None,
    tokenizer: Any = None,
    device: str | torch.device = AUTO,
    dtype: str | torch.dtype = AUTO,
    device_map: str | os.PathLike | Mapping[str, Any] | None = None,
    max_memory: Mapping[int | str, int] | None = None,
    batch: int | str = AUTO,
    progress: Progress | None = None,
) -> Evaluation:
    """Perplexity and bits per byte, and what else is asked for.

    Args:
        model: a folder of `wideneck train`; or a Hugging Face id (`id@revision`), a folder, a
            file, a model in memory, or None for the default model, with a head of wideneck or not.
        text: a file, read whole; a folder of splits or `datasets:NAME`; or None for a run's own
            text, for a model the reference of the Python language.
        split: "train", "valid" or "test", the default, where the text has splits.
        dynamic: for a run: the numbers of dynamic evaluation, whose statistics are taken from the
            run's training split.
        cache_size: for a run: number of pairs in a neural cache, whose theta and weight are fitted
            on the run's validation split.
        num_contexts: rows of the matrix of log-probabilities whose ranks are measured, at equal
            distances over the text; all if there are fewer.
        num_tokens: read at most this many tokens from the start of the text.
        context: for a model: number of predictions in a window; None for 512, or as many as it has
            positions for.  A run has its own.
        tokenizer: the tokenizer of a model in memory.
        device: where to compute, as for `wideneck.audit`; for a run this one alone may be given.
        dtype: in which the model runs, likewise.
        device_map: spreads a model over devices, the CPU and the disk, likewise.
        max_memory: bytes by device, likewise.
        batch: windows to run at once, likewise.
        progress: called as progress(stage, done, total).

    Cost: one pass over the text; neural cache: one over the validation split and one over the text;
    dynamic evaluation: a training step for every `segment` tokens of the text, one row, and one
    for every 500 of the training split; ranks: 2 N^2 V operations for N contexts and V tokens.

    Raises:
        WideneckError: the model or the text cannot be read, or something is asked for that is not
            offered for it.
    """
    found = _shared(
        ALONE,
        model,
        text,
        split=split,
        dynamic=dynamic,
        cache_size=cache_size,
        num_contexts=num_contexts,
        num_tokens=num_tokens,
        context=context,
        tokenizer=tokenizer,
        places={
            "device": device,
            "dtype": dtype,
            "device_map": device_map,
            "max_memory": max_memory,
            "batch": batch,
        },
        progress=progress,
    )
    assert found is not None  # there is no other process that would have it
    return found


def evaluated(
    model: str | None,
    text: str | None,
    *,
    split: str | None,
    besides: Sequence[str],
    tokens: int | None,
    context: int | None,
    html: Path | None,
    json: Path | None,
    where: Mapping[str, Any],
) -> None:
    """Evaluate, and print or write what was found; options as the command line has them.

    Under torchrun the processes share the windows of the text, and the first one writes.
    """
    with joined() as ranks:
        first = ranks.rank == 0
        as_html, as_json = html_and_json(html, json, reads=[model, text]) if first else (None,) * 2
        asked, places = besides_option(besides), placement_options(where)
        with native_output_apart(), progress_bars(first, time_left=True) as progress:
            found = _shared(
                ranks,
                model,
                text,
                split=split,
                dynamic=asked.dynamic,
                cache_size=asked.cache_size,
                num_contexts=asked.num_contexts,
                num_tokens=tokens,
                context=context,
                tokenizer=None,
                places=places,
                progress=progress,
            )
        if found is not None:
            deliver(found.show, (as_html, found.to_html_text), (as_json, found.to_json_text))


def _shared(
    ranks: Ranks,
    model: str | os.PathLike | nn.Module | None,
    text: str | os.PathLike | None,
    *,
    split: str | None,
    dynamic: DynamicEvaluation | None,
    cache_size: int | None,
    num_contexts: int | None,
    num_tokens: int | None,
    context: int | None,
    tokenizer: Any,
    places: Mapping[str, Any],
    progress: Progress | None,
) -> Evaluation | None:
    """By several processes, which share the windows of the text; None but on the first."""
    for name, number in (("tokens", num_tokens), ("context", context)):
        if number is not None and number < 1:
            raise WideneckError(f"An evaluation needs --{name} of at least 1, got {number}.")
    shared: dict[str, Any] = {
        "num_contexts": num_contexts,
        "num_tokens": num_tokens,
        "progress": progress,
    }
    if model is not None and not isinstance(model, nn.Module) and is_run(Path(model)):
        if context is not None:
            raise WideneckError(
                f"{os.fspath(model)} is a run, which reads a text as it was trained to: leave out "
                "--context."
            )
        return evaluate_run(
            Path(model),
            device=_device_of_run(model, places, ranks),
            text=None if text is None else os.fspath(text),
            split=split,
            dynamic=dynamic,
            cache_size=cache_size,
            **shared,
        )
    if dynamic is not None or cache_size is not None:
        what = "Dynamic evaluation" if cache_size is None else "A neural cache"
        raise WideneckError(
            f"{what} is for a folder of `wideneck train`; of any other model there are the "
            "perplexity, bits per byte and ranks."
        )
    chosen = the_default_text(split) if text is None else chosen_text(os.fspath(text), split)
    where = placed(model, **places, local_rank=ranks.local_rank)
    return _evaluate_model(
        ranks, where, model, chosen, tokenizer=tokenizer, context=context, **shared
    )


def _device_of_run(
    model: str | os.PathLike, places: Mapping[str, Any], ranks: Ranks
) -> torch.device:
    """Where a run is evaluated, as one process in float32."""
    more = [k for k, v in places.items() if k != "device" and v is not None and v != AUTO]
    if more:
        raise WideneckError(
            f"{os.fspath(model)} is a run, which is evaluated in float32 on one device, a row of "
            f"text at a time: leave out {', '.join(more)}."
        )
    if ranks.world > 1:
        raise WideneckError(
            f"{os.fspath(model)} is a run, whose state goes over from one part of the text to the "
            f"next: one process reads it, and {ranks.world} were started."
        )
    return placement(places.get("device", AUTO)).device


def _evaluate_model(
    ranks: Ranks,
    where: Placement,
    model: str | os.PathLike | nn.Module | None,
    text: Chosen,
    *,
    tokenizer: Any,
    num_contexts: int | None,
    num_tokens: int | None,
    context: int | None,
    progress: Progress | None,
) -> Evaluation | None:
    clock = Clock()
    if progress:
        progress("loading the model", 0, 1)
    with clock("load the model"):
        loaded = load_language_model(model, placement=where, tokenizer=tokenizer)
        if loaded.model.config.is_encoder_decoder:
            raise WideneckError(
                f"{loaded.source} has an encoder: an evaluation reads a text from left to right; "
                "give a model that predicts its next token."
            )
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
        if ranks.world > 1:
            ranks.agree("the text and the head", (text.sha256, _hash_of_head(loaded.model)))
        head = None if num_contexts is None else own_head(loaded.model, windows[0])
        found = document_losses(
            loaded.model,
            windows,
            num_hidden=num_contexts or 0,
            batch=where.batch,
            ranks=ranks,
            progress=progress,
        )
    if ranks.rank > 0:
        return None
    matrix = None
    if head is not None:
        assert found.hidden is not None
        with clock("ranks"):
            matrix = log_prob_ranks(
                head,
                found.hidden.to(head.weight.device),
                num_contexts=len(found.hidden),
                progress=progress,
            )
    num_predicted, num_read = int(found.counted.sum()), len(found.document.unique())
    notes = only_text(loaded.model)
    if num_tokens is not None and num_predicted >= num_tokens:
        notes.append(
            f"{num_tokens:,} tokens were asked for: {num_read:,} of {len(text.documents):,} "
            "documents."
        )
    nats = estimate(found.nll, found.document, found.counted)
    per_byte = num_predicted / found.num_bytes / math.log(2)
    front = f" behind {len(loaded.bos)} that the tokenizer puts in front" if loaded.bos else ""
    conventions = (
        f"each document in non-overlapping windows of {window:,} tokens{front}, each read anew; "
        "every token of a document after its first is predicted, and bytes are those of the "
        "predicted tokens"
    )
    return Evaluation(
        source=origin(
            loaded.model,
            attached_head(loaded.model),
            text,
            model=loaded.source,
            kind="model",
            seconds=clock.seconds,
            notes=notes,
        ),
        plain=Perplexity.of(total(found.nll), num_predicted, conventions, found.num_bytes),
        over_documents=OverDocuments(
            loss=nats,
            perplexity=nats.map(lambda x: math.exp(min(x, 700.0))),  # beyond, float64 overflows
            bits_per_byte=nats.map(lambda x: x * per_byte),
        ),
        neural_cache=None,
        dynamic=None,
        ranks=matrix,
    )


def _hash_of_head(model: Any) -> str:
    """Of the numbers of its output layer, as they are loaded."""
    layer, digest = model.get_output_embeddings(), hashlib.sha256()
    with weights_there(layer):
        for weight in layer.parameters():
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


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
