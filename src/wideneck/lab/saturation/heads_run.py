"""One head on frozen states: where it starts, how it is trained, what it loses in each window.

Started "whitened", a head of rank r is at first the output layer cut to r where the hidden states
are white, so its loss before the first step is that of the truncation; the softmax starts as the
output layer itself, so its first loss is that of the untouched head.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from wideneck.audits.measure import measure
from wideneck.config import LowRank, Softmax
from wideneck.errors import WideneckError
from wideneck.lab.jobs import Show
from wideneck.models import evaluating
from wideneck.models.small.config import States
from wideneck.training.batches import Observation
from wideneck.training.folder import METRICS
from wideneck.training.metrics import read_metrics, train_again
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe
from wideneck.training.run import run
from wideneck.training.states_task import HeadAlone, recipe_states

OBSERVED = "window_losses"
ROWS = 512
"""States at a time."""
LAST = 0.1
"""Share of the steps over which the slope at the end is told."""

RANDOM_RATES = ((768, 5e-3), (512, 7e-3), (64, 1e-2), (0, 2e-2))
"""The paper's on Pythias (Figure 9): the rate from each rank on; see `random_rate`."""


@dataclass(frozen=True, kw_only=True)
class HeadRun:
    """One head with one seed.  Losses are means over each held-out window, in nats per token."""

    rank: int = measure("rank r of the output matrix; the hidden size for the softmax")
    start: str = measure("own: a softmax from the model's output layer; whitened; random")
    seed: int = measure("decides the order of the states, and a random start")
    num_parameters: int = measure("numbers of the head")
    learning_rate: float = measure("the highest, after the warmup")
    first: list[float] = measure("loss of each held-out window before training", unit="nats")
    nearly_last: list[float] = measure("the same after 90 % of the steps", unit="nats")
    last: list[float] = measure("the same at the end", unit="nats")
    train_loss: list[float] = measure("mean loss of every tenth of the training", unit="nats")
    num_steps: int = measure("optimizer's steps")
    tokens: int = measure("predictions in training")
    seconds: float = measure("training", unit="seconds")
    versions: dict[str, str] = measure("software")


@dataclass(frozen=True)
class _Line:
    """What is read of a line of metrics."""

    step: int
    loss: float | None = None
    window_losses: list[float] | None = None
    """The key is `OBSERVED`."""


def whitened_rate(rank: int) -> float:
    """AdamW's rate for a head that starts from the trained one.

    A line through what was best on seed 0 of rates apart by a factor of 4, after 48 steps of 128
    states of the default model: 1.3e-3 at rank 16 (1.3e-3 to 2.1e-2), 1.1e-3 at 128 (2.9e-4 to
    4.6e-3; the two lower ones 0.024 nats apart), 1.3e-4 for the softmax of rank 576 (3.1e-5 to
    5e-4).  Seed 0 is one of those that are reported, which the choice may flatter; a table says so.
    The rate falls with the rank faster than the paper's, which are for heads started at random.
    """
    return 5e-4 * (128 / rank) ** 0.7


def random_rate(rank: int) -> float:
    """The paper's for a head that starts at random."""
    return next(rate for least, rate in RANDOM_RATES if rank >= least)


def head_recipe(recipe: Recipe, rank: int, start: str, seed: int) -> Recipe:
    """The recipe of one head.

    Args:
        rank: the hidden size for the softmax.
        start: "whitened" or "random", or "own" for the softmax.
        seed: counts from the recipe's own.
        recipe: what all heads share; its rank and its rate do not count.
    """
    assert isinstance(recipe.model, States)
    assert isinstance(recipe.optimizer, AdamW)
    rate = random_rate(rank) if start == "random" else whitened_rate(rank)
    return replace(
        recipe,
        model=replace(recipe.model, start=start),
        head=Softmax() if start == "own" else LowRank(rank=rank),
        optimizer=replace(recipe.optimizer, learning_rate=rate),
        training=replace(recipe.training, evaluate_every=recipe.training.epochs),
        seed=recipe.seed + seed,
    )


def train_head(
    rank: int, start: str, seed: int, recipe: Recipe, folder: Path, show: Show
) -> HeadRun:
    """Train in a folder, or read the run that is finished there; the states are kept beside it.

    Args:
        rank, start, seed, recipe: as for `head_recipe`.

    Raises:
        WideneckError: as `wideneck.training.run`.
    """
    recipe = head_recipe(recipe, rank, start, seed)
    states = recipe_states(recipe, folder.parent)
    valid = states.splits["valid"]
    schedule = recipe.training
    per_epoch = len(states.splits["train"].target) // schedule.batch_size
    num_steps = round(per_epoch * schedule.epochs)
    window = len(valid.target) // len(valid.document)

    def losses(model: nn.Module) -> dict[str, Any]:
        head, device = cast(HeadAlone, model).head, next(model.parameters()).device
        parts = zip(valid.hidden.split(ROWS), valid.target.split(ROWS), strict=True)
        with torch.no_grad(), evaluating(model):
            nll = [head.nll(x.to(device), y.long().to(device), reduction="none") for x, y in parts]
        return {OBSERVED: torch.cat(nll).cpu().double().view(-1, window).mean(1).tolist()}

    nearly = min(num_steps - 1, round((1 - LAST) * num_steps))
    observe = Observation(frozenset({0, nearly, num_steps}), losses)
    result = run(recipe, folder, show=lambda share, loss, speed: show(share), observe=observe)
    lines = read_metrics(folder / METRICS, _Line)
    at = {line.step: line.window_losses for line in lines if line.window_losses is not None}
    for step in observe.steps - at.keys():
        raise WideneckError(
            f"{folder / METRICS} lacks the losses at step {step}: {train_again(folder)}."
        )
    trained = torch.tensor([line.loss for line in lines if line.loss is not None])
    return HeadRun(
        rank=rank,
        start=start,
        seed=seed,
        **{name: result[name] for name in ("num_parameters", "tokens", "seconds", "versions")},
        learning_rate=recipe.optimizer.learning_rate,
        first=at[0],
        nearly_last=at[nearly],
        last=at[num_steps],
        train_loss=[part.mean().item() for part in trained.tensor_split(10) if len(part)],
        num_steps=result["steps"],
    )
