"""Periods are lengthened until watching takes its share of the time."""

import pytest
import torch

from wideneck.watching import pace as module
from wideneck.watching.pace import Pace

CPU = torch.device("cpu")


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def stepped(pace, clock, step, costs):
    """A step of a second, and what is due in it."""
    clock.now += 1.0
    measured = [name for name in pace.periods if pace.due(name, step)]
    for name in measured:
        with pace.timing(name, CPU):
            clock.now += costs[name]
    pace.stepped(measured, CPU)
    return measured


def test_periods_are_doubled_until_the_share_is_kept(clock):
    pace = Pace({"a": 1, "b": 10}, 0.01)
    costs = {"a": 0.05, "b": 0.02}
    for step in range(1, 41):
        stepped(pace, clock, step, costs)
    # A half of 1 % for each: 0.05 s every 16 steps (10 would do), 0.02 s every 10 (4 would do).
    assert pace.periods == {"a": 16, "b": 10}
    assert pace.share == pytest.approx(0.05 / 16 + 0.02 / 10)
    assert pace.share < 0.01


def test_a_period_comes_back_when_a_look_is_cheaper(clock):
    pace = Pace({"a": 2}, 0.01)
    for step in (1, 2):
        stepped(pace, clock, step, {"a": 0.15})
    assert pace.periods == {"a": 16}
    assert [step for step in range(3, 20) if stepped(pace, clock, step, {"a": 0.01})] == [16, 18]
    assert pace.periods == {"a": 2}


def test_without_a_limit_periods_stay(clock):
    pace = Pace({"a": 2}, None)
    assert [step for step in range(1, 8) if stepped(pace, clock, step, {"a": 5.0})] == [1, 2, 4, 6]
    assert pace.share == pytest.approx(2.5)
