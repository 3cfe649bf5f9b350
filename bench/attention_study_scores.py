"""What the attention study measures of a model: losses of text, and needles found."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.attention_study_data import (
    IGNORED,
    VALUE,
    Batch,
    Corpus,
    needle_batch,
    text_batch,
    text_of,
)

ROWS = 2**14
"""Tokens of an evaluation batch."""


def _logits(model: Any, batch: Batch) -> Tensor:
    return model(input_ids=batch.ids, use_cache=False).logits


def token_losses(model: Any, batch: Batch) -> Tensor:
    """Losses (B, L), 0 where nothing is to be predicted."""
    logits = _logits(model, batch).transpose(1, 2)
    return F.cross_entropy(logits, batch.targets, reduction="none", ignore_index=IGNORED)


def mean_losses(losses: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of the text, and of the bytes of queried values."""
    is_text = (batch.targets != IGNORED) & ~batch.is_value
    return losses[is_text].mean(), losses[batch.is_value].mean()


@torch.no_grad()
def text_scores(model: Any, corpus: Corpus, context: int) -> dict[str, dict]:
    """The same bytes in windows of 1, 2 and 4 contexts.

    `beyond` is the mean over the positions past the training context, `beyond_at_1x` the loss of
    these very bytes in windows of one context.
    """
    losses = {}
    for times in (1, 2, 4):
        width = times * context
        pieces = [
            block[at : at + width] for block in corpus.blocks for at in range(0, len(block), width)
        ]
        rows = max(1, ROWS // width)
        found = [
            token_losses(model, text_batch(pieces[i : i + rows]))
            for i in range(0, len(pieces), rows)
        ]
        losses[times] = torch.cat(found).double().view(len(corpus.blocks), -1)
    result = {}
    for times, values in losses.items():
        line: dict[str, Any] = {"all": values.mean().item(), "by_block": values.mean(1).tolist()}
        if times > 1:
            at = torch.arange(values.shape[1]) % (times * context)
            late = at >= context
            line["beyond"] = values[:, late].mean().item()
            line["beyond_at_1x"] = losses[1][:, late].mean().item()
        result[f"{times}x"] = line
    return result


@torch.no_grad()
def needle_scores(
    model: Any, corpus: Corpus, lengths: Sequence[int], haystacks: int
) -> dict[str, dict]:
    """Share of the queried values whose bytes are all the likeliest, given the bytes before."""
    result = {}
    for length in lengths:
        draw = random.Random(length)  # the same needles for every run
        width = text_of(length)
        right, depths = [], []
        rows = max(1, ROWS // length)
        for first in range(0, haystacks, rows):
            pieces = []
            for _ in range(min(rows, haystacks - first)):
                block = draw.choice(corpus.blocks)
                start = draw.randrange(len(block) - width + 1)
                pieces.append(block[start : start + width])
            batch = needle_batch(pieces, draw)
            hits = _logits(model, batch).argmax(-1) == batch.targets
            right.append(hits[batch.is_value].view(len(pieces), -1, VALUE).all(-1))
            depths.append(batch.depths)
        hit, depth = torch.cat(right).double(), torch.cat(depths)
        quarter = (depth * 4).long().clamp(max=3)
        result[str(length)] = {
            "accuracy": hit.mean().item(),
            "by_depth": [hit[quarter == i].mean().item() for i in range(4)],
        }
    return result
