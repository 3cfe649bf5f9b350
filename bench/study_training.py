"""The steps that every arm of a study is trained by."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def train(
    optimizer: torch.optim.Optimizer,
    factor: Callable[[int], float],
    parameters: Iterable[Tensor],
    clip: float,
    num_steps: int,
    loss: Callable[[int], tuple[Tensor, Callable[[], Any]]],
) -> tuple[list[float], list[Any]]:
    """Seconds of every step, and what is noted of it.

    Args:
        optimizer: of all that learns.
        factor: of its rates at a step.
        parameters: whose gradients are clipped together.
        clip: the longest that they may be.
        num_steps: steps.
        loss: of a step, from the data on, and what to note once the step is done.
    """
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    parameters = list(parameters)
    seconds, notes = [], []
    for step in range(num_steps):
        start = time.perf_counter()
        value, note = loss(step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        notes.append(note())
        seconds.append(time.perf_counter() - start)
    return seconds, notes


def warmed_cosine(step: int, num_steps: int, warm_up: float, final: float) -> float:
    """Of a learning rate: linear warm-up over a share of the steps, then a cosine to `final`."""
    rising = max(1, round(warm_up * num_steps))
    if step < rising:
        return (step + 1) / rising
    turn = math.pi * (step - rising) / max(1, num_steps - rising)
    return final + (1 - final) * (1 + math.cos(turn)) / 2
