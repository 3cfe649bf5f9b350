"""A trained model on the test prompts: what it and its two sides predict, and the rank of both.

Prompts of equal length go through the model together, so nothing is padded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.attached.memory_model import Views, three_ways
from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.lab.ambiguous.accuracy import accuracy_at_k, needed_k
from wideneck.lab.histalign.task import Task
from wideneck.models import evaluating

NUMBERS = 2**24
"""Log-probabilities of one distribution that are held at a time: 64 MB."""
VIEWS = ("full", "model", "cache")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The fields of `results.Run` of the same names."""

    full: dict[str, float]
    model: dict[str, float]
    cache: dict[str, float]
    memory_share: float
    loss: float
    loss_model: float
    rank: int
    rank_model: int
    rank_rows: int


@torch.no_grad()
def evaluate(model: Any, task: Task, num_rank_rows: int) -> Evaluation:
    """Measure at the position after each prompt, and the rank at all positions of some.

    Cost: one forward of all prompts, and 2 N^2 V operations for each rank, N `num_rank_rows`.
    """
    needed: dict[str, list[Tensor]] = {view: [] for view in VIEWS}
    shares, losses, losses_model = [], [], []
    targets = torch.tensor(task.targets)
    with evaluating(model):
        for at, views in _viewed(model, task.prompts, slice(-1, None)):
            for view in VIEWS:
                log_probs = getattr(views, view)[:, 0].cpu()
                needed[view].append(needed_k(log_probs, task.first[at], task.second[at]))
            shares.append(views.memory_share.cpu())
            losses.append(-views.full[:, 0].cpu().gather(1, targets[at]))
            losses_model.append(-views.model[:, 0].cpu().gather(1, targets[at]))
        some = _enough(task.prompts, num_rank_rows)
        full, alone = [], []
        for _, views in _viewed(model, some, slice(None)):
            full.append(views.full.flatten(0, 1).cpu())
            alone.append(views.model.flatten(0, 1).cpu())
    full, alone = torch.cat(full)[:num_rank_rows], torch.cat(alone)[:num_rank_rows]
    accuracy = {
        view: {str(k): 100 * share for k, share in accuracy_at_k(torch.cat(needed[view])).items()}
        for view in VIEWS
    }
    return Evaluation(
        **accuracy,
        memory_share=torch.cat(shares).double().mean().item(),
        loss=torch.cat(losses).double().mean().item(),
        loss_model=torch.cat(losses_model).double().mean().item(),
        rank=numerical_rank(full),
        rank_model=numerical_rank(alone),
        rank_rows=len(full),
    )


def _viewed(
    model: Any, prompts: Sequence[list[int]], keep: slice
) -> Iterator[tuple[list[int], Views]]:
    """Batches of prompts of equal length: their places, and the model's three distributions."""
    vocab_size, device = model.config.get_text_config().vocab_size, model.device
    of_length: dict[int, list[int]] = {}
    for place, ids in enumerate(prompts):
        of_length.setdefault(len(ids), []).append(place)
    for length, places in of_length.items():
        positions = len(range(length)[keep])
        batch = max(1, NUMBERS // (vocab_size * positions))
        for start in range(0, len(places), batch):
            at = places[start : start + batch]
            ids = torch.tensor([prompts[place] for place in at], device=device)
            yield at, three_ways(model, ids, keep=keep)


def _enough(prompts: Sequence[list[int]], num_rows: int) -> Sequence[list[int]]:
    """The first prompts, as many as have so many positions together."""
    total = 0
    for number, ids in enumerate(prompts, start=1):
        total += len(ids)
        if total >= num_rows:
            return prompts[:number]
    return prompts
