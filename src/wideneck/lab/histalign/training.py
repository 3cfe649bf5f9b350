"""The loop: rows in random order, the loss on the pieces of the label alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import IGNORE, Example
from wideneck.lab.histalign.settings import Recipe

MAX_NORM = 1.0
"""Of the gradient, as the Trainer of transformers clips it."""


def train(
    model: Any,
    rows: Sequence[Example],
    recipe: Recipe,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    """Train in place.

    Args:
        model: with a memory, whose config says the objective.
        rows: of training.
        recipe: how.
        seed: of the order of the rows.
        progress: called with the share of the steps that is done.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0, fused=True)
    num_steps = steps(recipe, len(rows))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
    model.train()
    for step, batch in enumerate(_batches(rows, recipe.batch_size, num_steps, seed)):
        num_targets = sum(label != IGNORE for row in batch for label in row.labels)
        for start in range(0, len(batch), recipe.micro_batch):
            part = padded(batch[start : start + recipe.micro_batch], device)
            loss = model(**part, num_items_in_batch=num_targets).loss
            if not loss.isfinite():
                raise WideneckError(
                    f"The loss is no longer finite at step {step + 1} of {num_steps}: this model "
                    "cannot be trained by this objective with raw scores."
                )
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        falling.step()
        optimizer.zero_grad()
        progress((step + 1) / num_steps)


def steps(recipe: Recipe, num_rows: int) -> int:
    """Optimizer's steps on so many rows."""
    if recipe.num_steps is not None:
        return recipe.num_steps
    assert recipe.num_epochs is not None
    return max(1, recipe.num_epochs * num_rows // recipe.batch_size)


def padded(rows: Sequence[Example], device: torch.device) -> dict[str, Tensor]:
    """What a model takes, padded on the right: positions count from the first token."""
    ids = [torch.tensor(row.ids) for row in rows]
    labels = [torch.tensor(row.labels) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True).to(device),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE).to(device),
        "attention_mask": pad_sequence(list(map(torch.ones_like, ids)), batch_first=True).to(
            device
        ),
    }


def _batches(
    rows: Sequence[Example], batch_size: int, num_steps: int, seed: int
) -> Iterator[list[Example]]:
    """Batches of one size over permutations that follow each other without a gap."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(num_steps):
        while len(order) < batch_size:
            order += torch.randperm(len(rows), generator=generator).tolist()
        yield [rows[i] for i in order[:batch_size]]
        del order[:batch_size]
