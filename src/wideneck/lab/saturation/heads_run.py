"""One head on frozen states: where it starts, how it is trained, what it loses in each window.

Started "whitened", a head of rank r is at first the output layer cut to r where the hidden states
are white, so its loss before the first step is that of the truncation; the softmax starts as the
output layer itself, so its first loss is that of the untouched head.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from wideneck.audits.measure import measure
from wideneck.errors import WideneckError
from wideneck.lab.jobs import Show
from wideneck.models import evaluating
from wideneck.training.folder import METRICS
from wideneck.training.metrics import read_metrics, train_again
from wideneck.training.recipe import Recipe
from wideneck.training.run import run
from wideneck.training.states_task import HeadAlone, recipe_states
from wideneck.training.task import Observation

OBSERVED = "window_losses"
ROWS = 512
"""States at a time."""
LAST = 0.1
"""Share of the steps over which the slope at the end is told."""


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


def train_head(
    rank: int, start: str, seed: int, recipe: Recipe, folder: Path, show: Show
) -> HeadRun:
    """Train in a folder, or read the run that is finished there; the states are kept beside it.

    Raises:
        WideneckError: as `wideneck.training.run`.
    """
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
