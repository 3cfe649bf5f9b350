"""One run of the attention study: a small Llama trained from scratch under one normalizer."""

import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import wideneck as wn
from bench.attention_study_data import (
    IGNORED,
    VALUE,
    VOCABULARY,
    Batch,
    Corpus,
    needle_batch,
    text_batch,
    text_of,
    train_batch,
)
from bench.studies import train, warmed_cosine

ROWS = 2**14
"""Tokens of an evaluation batch."""
NO_POSITIONS = ", no positions"
"""Ends the name of a variant whose queries and keys are not rotated."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every model is made, trained and measured.

    The same for every normalizer; chosen by softmax alone, so that it learns the needles.
    """

    steps: int = 600
    batch: int = 8
    """Sequences of a step at the training context; as many tokens at the shorter one."""
    context: int = 256
    early_context: int = 64
    early_share: float = 0.5
    """Share of the steps, the first ones, that use the shorter context; without them no needle is
    learned."""
    layers: int = 2
    heads: int = 2
    hidden: int = 128
    intermediate: int = 256
    init: float = 0.06
    lr: float = 3e-3
    warm_up: float = 0.05
    final_lr: float = 0.05
    weight_decay: float = 0.1
    clip: float = 1.0
    blocks: int = 48
    """Held-out text, in blocks of four contexts."""
    haystacks: int = 64
    """Needle sequences of each length."""
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024)

    @property
    def early_steps(self) -> int:
        return round(self.steps * self.early_share)


def run(name: str, seed: int, corpus: Corpus, recipe: Recipe) -> dict:
    """Train and evaluate.  Losses are means in nats a byte."""
    model = build(name, seed, recipe)
    seconds = _train(model, seed, corpus, recipe)
    started = time.perf_counter()
    results = {
        "text": text_scores(model, corpus, recipe),
        "needles": needle_scores(model, corpus, recipe),
        "learned": _learned(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds_a_step": statistics.median(seconds[recipe.early_steps :]),
        "seconds_training": sum(seconds),
    }
    return results | {"seconds_evaluating": time.perf_counter() - started}


def build(name: str, seed: int, recipe: Recipe) -> Any:
    """The model; every normalizer has the same one of a seed, but for what it learns itself."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=max(recipe.lengths),
            initializer_range=recipe.init,
            tie_word_embeddings=True,
        )
    )
    if name.endswith(NO_POSITIONS):
        # All rotations by 0; a large theta would still turn the first pair by one radian a token.
        model.model.rotary_emb.inv_freq.zero_()
    return wn.attention.use(model, name.removesuffix(NO_POSITIONS))


def _train(model: Any, seed: int, corpus: Corpus, recipe: Recipe) -> list[float]:
    """Seconds of every step."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim == 2 and "normalizer" not in name
        (matrices if decays else others).append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.lr,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    draw = random.Random(seed)  # the seed's alone: the same data for every normalizer

    def loss(step: int) -> Tensor:
        length = recipe.early_context if step < recipe.early_steps else recipe.context
        rows = recipe.batch * recipe.context // length
        batch = train_batch(corpus.train, length, rows, draw)
        losses = token_losses(model, batch)
        is_text = (batch.targets != IGNORED) & ~batch.is_value
        return losses[is_text].mean() + losses[batch.is_value].mean()

    factor = warmed_cosine(recipe.steps, recipe.warm_up, recipe.final_lr)
    return train(optimizer, factor, model.parameters(), recipe.clip, recipe.steps, loss)


def _learned(model: Any) -> dict[str, list[float]]:
    """The learned numbers of the heads; of asentmax, the norm of each head's vectors."""
    return {
        name: (p if p.ndim == 1 else p.norm(dim=1)).tolist()
        for name, p in model.named_parameters()
        if "normalizer" in name
    }


def _logits(model: Any, batch: Batch) -> Tensor:
    return model(input_ids=batch.ids, use_cache=False).logits


def token_losses(model: Any, batch: Batch) -> Tensor:
    """Losses (B, L), 0 where nothing is to be predicted."""
    logits = _logits(model, batch).transpose(1, 2)
    return F.cross_entropy(logits, batch.targets, reduction="none", ignore_index=IGNORED)


@torch.no_grad()
def text_scores(model: Any, corpus: Corpus, recipe: Recipe) -> dict[str, dict]:
    """The same bytes in windows of 1, 2 and 4 contexts.

    `beyond` is the mean over the positions past the training context, `beyond_at_1x` the loss of
    these very bytes in windows of one context.
    """
    losses = {}
    for times in (1, 2, 4):
        width = times * recipe.context
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
        line = {"all": values.mean().item()}
        if times > 1:
            at = torch.arange(values.shape[1]) % (times * recipe.context)
            late = at >= recipe.context
            line["beyond"] = values[:, late].mean().item()
            line["beyond_at_1x"] = losses[1][:, late].mean().item()
        result[f"{times}x"] = line
    return result


@torch.no_grad()
def needle_scores(model: Any, corpus: Corpus, recipe: Recipe) -> dict[str, dict]:
    """Share of the queried values whose bytes are all the likeliest, given the bytes before."""
    result = {}
    for length in recipe.lengths:
        draw = random.Random(length)  # the same needles for every run
        width = text_of(length)
        right = []
        rows = max(1, ROWS // length)
        for first in range(0, recipe.haystacks, rows):
            pieces = []
            for _ in range(min(rows, recipe.haystacks - first)):
                block = draw.choice(corpus.blocks)
                start = draw.randrange(len(block) - width + 1)
                pieces.append(block[start : start + width])
            batch = needle_batch(pieces, draw)
            hits = _logits(model, batch).argmax(-1) == batch.targets
            right.append(hits[batch.is_value].view(len(pieces), -1, VALUE).all(-1))
        result[str(length)] = {"accuracy": torch.cat(right).double().mean().item()}
    return result
