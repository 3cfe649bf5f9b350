"""Models of one tokenizer, prediction by prediction.

Shapes: W windows of T predictions.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.data import Vocabulary, Windows, cut_windows
from wideneck.evaluation.comparison.asked import Asked
from wideneck.evaluation.comparison.comparison import Comparison
from wideneck.evaluation.comparison.distributions import Apart, OfOne, distributions
from wideneck.evaluation.comparison.examples import Decode, examples
from wideneck.evaluation.comparison.groups import Kind, kinds
from wideneck.evaluation.comparison.measuring import (
    by_kind,
    calibration,
    groups_to_see,
    log_normalizer,
    per_byte,
)
from wideneck.evaluation.comparison.over_models import over_models
from wideneck.evaluation.comparison.reading import Read, read_model
from wideneck.evaluation.comparison.results import Difference, GroupDifference, OneModel

CONTEXTS = 512
"""Whose log-probabilities the rank is of."""


def by_token(asked: Asked, groups: Sequence[int], names: Sequence[str]) -> Comparison:
    """Compare models, or groups of them.

    Args:
        asked: models of one tokenizer, group by group.
        groups: how many models each group has; all 1 where models are compared.
        names: of the groups.
    """
    windows = cut_windows(
        asked.text,
        asked.tokenizers[0],
        num_tokens=asked.num_tokens,
        window=asked.window,
        seed=asked.seed,
    )
    reads = []
    with asked.clock("read the text"):
        for model, tokenizer, where in zip(
            asked.models, asked.tokenizers, asked.places, strict=True
        ):
            if asked.progress:
                asked.progress("loading a model", len(reads), len(asked.models))
            reads.append(
                read_model(model, tokenizer, windows, where=where, progress=asked.progress)
            )
    with asked.clock("compare"):
        ones, apart = _distributions(reads, windows, asked)
        losses = [_losses(read, one, windows) for read, one in zip(reads, ones, strict=True)]
        found = list(kinds(asked.text, windows, asked.tokenizers[0]))
    with asked.clock("ranks"):
        models = [
            _model(read, one, loss, windows)
            for read, one, loss in zip(reads, ones, losses, strict=True)
        ]
    decode = partial(_decode, asked.tokenizers[0])
    grouped = max(groups) > 1
    differences = []
    if not grouped:
        differences = [
            _difference(i, reads, ones, apart, losses, found, windows, decode)
            for i in range(1, len(reads))
        ]
    return Comparison(
        source=asked.source(
            windows.targets.numel(), windows.num_documents, _notes(asked, reads, windows)
        ),
        models=models,
        differences=differences,
        groups=_groups(losses, groups, names, found) if grouped else [],
    )


def _distributions(
    reads: Sequence[Read], windows: Windows, asked: Asked
) -> tuple[list[OfOne | None], list[Apart | None]]:
    """For each model; None where it has no distributions, or the first has not."""
    ones: list[OfOne | None] = [None] * len(reads)
    apart: list[Apart | None] = [None] * len(reads)
    places = [i for i, read in enumerate(reads) if read.head is not None]
    if places:
        found, beside = distributions(
            [reads[i] for i in places], windows.targets.flatten(), progress=asked.progress
        )
        for i, one in zip(places, found, strict=True):
            ones[i] = one
        if places[0] == 0:
            for i, one in zip(places[1:], beside, strict=True):
                apart[i] = one
    return ones, apart


def _losses(read: Read, one: OfOne | None, windows: Windows) -> Tensor:
    """(W, T)."""
    if one is not None:
        return one.nll.view_as(windows.targets)
    assert read.nll is not None
    return read.nll


def _model(read: Read, one: OfOne | None, loss: Tensor, windows: Windows) -> OneModel:
    targets, document = windows.targets.flatten(), windows.document
    ranks = None
    if read.head is not None and read.hidden is not None:
        hidden = read.hidden.flatten(0, 1)[:CONTEXTS].to(read.head.weight)
        ranks = log_prob_ranks(read.head, hidden, num_contexts=len(hidden))
    return OneModel(
        model=read.name,
        head=read.kind,
        num_parameters=read.num_parameters,
        loss=estimate(loss, document),
        bits_per_byte=per_byte(loss, windows),
        top1=None if one is None else _share(one.top == targets, windows),
        median_rank=None if one is None else float(one.rank.double().quantile(0.5)),
        calibration=None if one is None else calibration(one, targets),
        log_normalizer=None if one is None else log_normalizer(one),
        effective_rank=None if ranks is None else ranks.effective_1e4,
        rank_contexts=None if ranks is None else ranks.num_contexts,
    )


def _difference(
    i: int,
    reads: Sequence[Read],
    ones: Sequence[OfOne | None],
    apart: Sequence[Apart | None],
    losses: Sequence[Tensor],
    found: Sequence[Kind],
    windows: Windows,
    decode: Decode,
) -> Difference:
    """Model i beside the first."""
    document, change = windows.document, losses[i].double() - losses[0].double()
    loss, beside, a, b = estimate(change, document), apart[i], ones[0], ones[i]
    agreement, better, worse = None, [], []
    if a is not None and b is not None:
        agreement = _share(a.top == b.top, windows)
        better = examples(a, b, windows, decode, gains=True)
        worse = examples(a, b, windows, decode, gains=False)
    return Difference(
        model=reads[i].name,
        loss=loss,
        bits_per_byte=per_byte(change, windows),
        documents_to_see=groups_to_see(loss),
        kl_from_first=beside and estimate(beside.forward.view_as(change), document),
        kl_to_first=beside and estimate(beside.backward.view_as(change), document),
        agreement=agreement,
        kinds=by_kind(found, losses[0], losses[i], document),
        better=better,
        worse=worse,
    )


def _share(hits: Tensor, windows: Windows) -> Estimate:
    return estimate(hits.view_as(windows.targets).double(), windows.document)


def _groups(
    losses: Sequence[Tensor], sizes: Sequence[int], names: Sequence[str], found: Sequence[Kind]
) -> list[GroupDifference]:
    parts = list(torch.stack([loss.double() for loss in losses]).split(list(sizes)))
    masks = [("all", torch.ones_like(losses[0], dtype=torch.bool))]
    masks += [(f"{kind.of}: {kind.name}", kind.members) for kind in found]
    return [
        GroupDifference(
            group=name,
            num_models=len(part),
            rows=[
                over_models(label, _means(parts[0], mask), _means(part, mask))
                for label, mask in masks
            ],
        )
        for name, part in zip(names[1:], parts[1:], strict=True)
    ]


def _means(losses: Tensor, mask: Tensor) -> list[float]:
    """Of each model's losses (M, W, T), the mean over some of the predictions."""
    return losses[:, mask].mean(1).tolist()


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    if isinstance(tokenizer, Vocabulary):
        return tokenizer.decode(ids)
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def _notes(asked: Asked, reads: Sequence[Read], windows: Windows) -> list[str]:
    notes = []
    if windows.targets.numel() < asked.num_tokens:
        notes.append(
            f"{asked.num_tokens:,} tokens were asked for, {windows.targets.numel():,} measured: "
            f"whole windows of {asked.window}, as many as the text holds."
        )
    if windows.num_documents == 1:
        notes.append(
            "All windows come from one document: the intervals are over windows, and say nothing "
            "of other texts."
        )
    without = [read.name for read in reads if read.head is None]
    if without:
        notes.append(
            f"{', '.join(without)}: predicts from a memory besides its head, so its losses alone "
            "are compared."
        )
    sizes = {read.head.vocab_size for read in reads if read.head is not None}
    if len(sizes) > 1:
        notes.append(
            "The heads have different numbers of rows, so no divergence from the first is given "
            "where it has another number."
        )
    return notes
